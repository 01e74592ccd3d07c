"""The encoder-decoders by name: ``encdec.arm`` in params, the file that the stage ``encdec`` writes."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geobody.conventions import MM_PER_M
from geobody.data.crops import CropShards
from geobody.errors import DataError, ParamsError
from geobody.geometry.turns import vertical_turns
from geobody.models.arm import Cameras, DrawingArm, EncoderDecoder, Latent, Views, turn_points
from geobody.models.explicit import Explicit
from geobody.models.residual_encoder import Scratch
from geobody.models.sync import ExplicitSync, Sync, ViewSynthesisSync
from geobody.models.thesis import ThesisNetwork
from geobody.models.tracks import require_track
from geobody.models.view_synthesis import ViewSynthesis
from geobody.progress import progress
from geobody.training.checkpoint import load_weights
from geobody.training.determinism import seeded

ARMS: dict[str, type[EncoderDecoder]] = {
    kind.arm: kind
    for kind in (ViewSynthesis, Explicit, Sync, ViewSynthesisSync, ExplicitSync, ThesisNetwork, Scratch)
}
INFERENCE_BATCH = 64


def make_encoder_decoder(*, arm: str, crop_size_px: int, track: str) -> EncoderDecoder:
    """Returns the arm called ``arm``, channels last; raises ``ParamsError`` for an unknown arm or track."""
    if arm not in ARMS:
        raise ParamsError(f"params.yaml: encdec.arm: value {arm!r}: one of {', '.join(ARMS)}")
    network = ARMS[arm](crop_size_px=crop_size_px, track=require_track(track))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def new_encoder_decoder(*, arm: str, crop_size_px: int, track: str, seed: int) -> EncoderDecoder:
    """The arm as ``seed`` makes it, before any training, frozen, in eval mode."""
    with seeded(seed, "encdec"):
        network = make_encoder_decoder(arm=arm, crop_size_px=crop_size_px, track=track)
    return network.eval().requires_grad_(False)


def load_encoder_decoder(path: Path) -> EncoderDecoder:
    """Returns the trained network in ``path``, frozen, in eval mode; raises ``DataError`` if it is broken."""
    cure = "make it anew with: dvc repro encdec"
    state, config = load_weights(path, cure=cure)
    try:
        network = make_encoder_decoder(**config)
        network.load_state_dict(state)
    except (TypeError, RuntimeError) as error:
        raise DataError(path, "holds another network's weights", cure) from error
    return network.eval().requires_grad_(False)


def load_views(
    crops: CropShards, rows: NDArray[np.int64], device: torch.device
) -> tuple[Views, Tensor, Tensor]:
    """Views of ``rows`` with the data set's masks, the difference masks, and R_world_to_crop (B,3,3)."""
    images, backgrounds, masks, masks_diff = (
        torch.from_numpy(array[rows]).to(device).float().div_(255.0)
        for array in (crops.images, crops.backgrounds, crops.masks, crops.masks_diff)
    )
    rotations = torch.from_numpy(crops.table["R_world_to_crop"][rows]).to(device, torch.float32)
    views = Views(
        images=images.movedim(3, 1),
        backgrounds=backgrounds.movedim(3, 1),
        masks=masks[:, None],
        cameras=_cameras(crops, rows, device),
    )
    return views, masks_diff[:, None], rotations


def embed(network: EncoderDecoder, crops: CropShards, rows: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """L_3D (N,200,3) and L_app (N,128), float32, of the crops ``rows``; ``network`` is in eval mode."""
    points, appearance = [], []
    batches = range(0, len(rows), INFERENCE_BATCH)
    with torch.inference_mode():
        for start in progress(batches, desc="embeddings"):
            latent = _encode(network, crops, rows[start : start + INFERENCE_BATCH])
            points.append(latent.points.cpu().numpy())
            appearance.append(latent.appearance.cpu().numpy())
    return np.concatenate(points), np.concatenate(appearance)


def draw_views(
    network: DrawingArm, crops: CropShards, *, source: NDArray[np.int64], target: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Pictures (N,S,S,3) in [0,1] of what each crop ``source`` shows, as the camera of ``target`` sees it.

    L_3D and L_app come from ``source`` alone; of ``target`` only the background and the camera are used.
    """
    from_world, to_world = (
        torch.from_numpy(crops.table["R_world_to_crop"][rows]) for rows in (target, source)
    )
    return _draw(network, crops, source=source, target=target, turns=from_world @ to_world.transpose(1, 2))


def draw_turned(
    network: DrawingArm, crops: CropShards, *, rows: NDArray[np.int64], angles_deg: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Pictures (N,S,S,3) in [0,1] of crops ``rows`` (N,), the person turned about the vertical by ``angles_deg`` (N,).

    The camera and the background stay.
    """
    R = torch.from_numpy(crops.table["R_world_to_crop"][rows])
    turns = vertical_turns(R, torch.from_numpy(np.deg2rad(angles_deg)))
    return _draw(network, crops, source=rows, target=rows, turns=turns)


def _draw(
    network: DrawingArm,
    crops: CropShards,
    *,
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    turns: Tensor,
) -> NDArray[np.float32]:
    drawn = []
    with torch.inference_mode():
        for start in range(0, len(source), INFERENCE_BATCH):
            chosen = slice(start, start + INFERENCE_BATCH)
            latent = _encode(network, crops, source[chosen])
            device = latent.points.device
            points = turn_points(latent.points, turns[chosen].to(device))
            views, _, _ = load_views(crops, target[chosen], device)
            images = network.render(Latent(points, latent.appearance), views.backgrounds, views.cameras)
            drawn.append(images.movedim(1, 3).cpu().numpy())
    return np.concatenate(drawn)


def _cameras(crops: CropShards, rows: NDArray[np.int64], device: torch.device) -> Cameras:
    focal, depth_mm = (
        torch.from_numpy(crops.table[name][rows]).to(device, torch.float32)
        for name in ("focal_px", "depth_mm")
    )
    return Cameras(focal=focal / crops.crop_size_px, depth_m=depth_mm / MM_PER_M)


def _encode(network: EncoderDecoder, crops: CropShards, rows: NDArray[np.int64]) -> Latent:
    device = next(network.parameters()).device
    views, masks_diff, _ = load_views(crops, rows, device)
    seen = network.network_input(views.images, masks_diff).contiguous(memory_format=torch.channels_last)
    return network.encode(seen)
