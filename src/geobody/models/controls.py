"""Controls: what labels alone reach, without the representation. Their weights share one file.

Mean pose and mean body know no image. Two CNNs of one architecture and one recipe learn from labels
alone: ``cnn_s1`` from the labelled subjects', ``cnn_all`` from everyone's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from geobody.conventions import H36M_ROOT
from geobody.errors import DataError
from geobody.models.mean_body import MeanBody
from geobody.models.pose_cnn import PoseCNN, images_to_tensor
from geobody.models.pose_scale import N_JOINTS
from geobody.models.tracks import network_input
from geobody.training.checkpoint import load_weights, save_weights

PREDICTION_BATCH: Final = 256
_CURE: Final = "run `dvc repro controls`"


def mean_pose(joints_mm: np.ndarray) -> np.ndarray:
    """(17,3) float32 mean of the labels ``joints_mm`` (N,17,3), root at zero, crop frame."""
    mean = np.asarray(joints_mm, dtype=np.float64).mean(0)
    return (mean - mean[H36M_ROOT]).astype(np.float32)


def save_controls(
    path: Path,
    *,
    cnns: Mapping[str, Mapping[str, Tensor]],
    cnn_config: Mapping[str, Any],
    pose_mm: np.ndarray,
    body: MeanBody,
) -> None:
    """Writes every control into one file; ``cnn_config`` rebuilds each CNN."""
    tensors = {f"{name}.{key}": value for name, state in cnns.items() for key, value in state.items()}
    tensors["mean_pose.joints_mm"] = torch.from_numpy(pose_mm)
    for key in ("betas", "body_pose", "global_orient"):
        tensors[f"mean_body.{key}"] = torch.from_numpy(getattr(body, key))
    save_weights(path, tensors, {"cnn": dict(cnn_config)})


def load_mean_pose(path: Path) -> np.ndarray:
    """(17,3) float32 mm, root at zero, crop frame. Raises DataError if ``path`` holds no controls."""
    return _arrays(path, "mean_pose", {"joints_mm": (N_JOINTS, 3)})["joints_mm"]


def load_mean_body(path: Path) -> MeanBody:
    """The mean body, oriented in the crop frame. Raises DataError if ``path`` holds no controls."""
    return MeanBody(
        **_arrays(path, "mean_body", {"betas": (10,), "body_pose": (23, 3, 3), "global_orient": (3, 3)})
    )


def load_cnn(path: Path, name: str) -> PoseCNN:
    """The CNN ``name`` ("cnn_s1" or "cnn_all") in evaluation mode.

    Raises DataError if ``path`` does not hold it.
    """
    tensors, config = load_weights(path, cure=_CURE)
    try:
        network = PoseCNN(**config["cnn"])
        network.load_state_dict(_below(tensors, name))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(path, f"holds no control {name!r} ({reason})", _CURE) from None
    return network.eval()


def predict_cnn(
    path: Path, name: str, images: np.ndarray, masks_diff: np.ndarray | None = None, *, device: str = "cpu"
) -> np.ndarray:
    """(N,17,3) float32 joints in mm, root-centred, crop frame, of ``images`` (N,S,S,3) uint8 RGB.

    ``name`` is "cnn_s1" or "cnn_all"; ``masks_diff`` as in ``apply_cnn``. Raises DataError if ``path`` does
    not hold that CNN, or holds one for crops of another size.
    """
    network = load_cnn(path, name)
    size = network.crop_size_px
    if images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise DataError(path, f"takes images (N,{size},{size},3), these are {images.shape}", _CURE)
    return apply_cnn(network, images, masks_diff, device=device)


@torch.no_grad()
def apply_cnn(
    network: PoseCNN, images: np.ndarray, masks_diff: np.ndarray | None = None, *, device: str = "cpu"
) -> np.ndarray:
    """(N,17,3) float32 joints in mm of ``images`` (N,S,S,3) uint8; puts the network into evaluation mode.

    ``masks_diff`` (N,S,S) uint8 are the difference masks, which a network of the track "masked" needs.
    """
    if network.track == "masked" and masks_diff is None:
        raise ValueError("a network of the track 'masked' needs the difference masks")
    network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    parts = []
    for start in range(0, len(images), PREDICTION_BATCH):
        some = slice(start, start + PREDICTION_BATCH)
        seen = images_to_tensor(images[some], device)
        if masks_diff is not None:
            seen = network_input(
                seen, images_to_tensor(masks_diff[some][..., None], device), track=network.track
            )
        parts.append(network(seen).cpu())
    return torch.cat(parts).numpy() if parts else np.zeros((0, N_JOINTS, 3), dtype=np.float32)


def _arrays(path: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    tensors = _below(load_weights(path, cure=_CURE)[0], name)
    for key, shape in shapes.items():
        if key not in tensors or tuple(tensors[key].shape) != shape:
            raise DataError(path, f"holds no control {name!r} ({key} of shape {shape})", _CURE)
    return {key: tensors[key].numpy() for key in shapes}


def _below(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")
    }
