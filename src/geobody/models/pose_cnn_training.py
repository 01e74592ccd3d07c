"""Training of the control CNNs, one process for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geobody.data.augmentation import augment, draw_turns, roll_images, roll_matrices, shuffle_backgrounds
from geobody.data.crops import CropShards
from geobody.data.mirroring import mirror_images, mirror_joints
from geobody.models.pose_cnn import PoseCNN, images_to_tensor
from geobody.parallel import in_parallel
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import Batch, RowSampler, fit


@dataclass(frozen=True)
class CnnRecipe:
    """How a control CNN is trained; keys and units as in ``params.yaml: controls``."""

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float
    dropout: float
    augmentation_strength: float
    background_share: float
    turn_deg: float
    mirror: bool


def augmented_batch(
    *,
    images: Tensor,
    masks: Tensor,
    backgrounds: Tensor,
    joints_mm: Tensor,
    recipe: CnnRecipe,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A training batch as the network sees it: images (B,3,S,S) in [0,1] and joints (B,17,3) in mm.

    Some people move in front of another's background; colours change, the person's apart from the
    room's (``masks`` (B,1,S,S) tell them apart); the camera rolls; half of the images are mirrored,
    joints with them.
    """
    count = len(images)
    if recipe.background_share > 0:
        images = shuffle_backgrounds(
            images, masks, backgrounds, generator=generator, probability=recipe.background_share
        )
    images = augment(images, masks, generator=generator, strength=recipe.augmentation_strength)
    if recipe.turn_deg > 0:
        angles = draw_turns(count, std_deg=recipe.turn_deg, generator=generator).to(images.device)
        images = roll_images(images, angles)
        joints_mm = joints_mm @ roll_matrices(angles).transpose(1, 2)
    if recipe.mirror:
        which = (torch.rand(count, generator=generator) < 0.5).to(images.device)
        images = mirror_images(images, which)
        joints_mm = mirror_joints(joints_mm, which)
    return images, joints_mm


def train_cnn(
    *,
    name: str,
    crops: Path,
    rows: np.ndarray,
    recipe: CnnRecipe,
    seed: int,
    precision: str,
    device: str,
    threads: int,
    scratch: Path,
    curves: Path,
) -> dict[str, Tensor]:
    """The state dict, on the CPU, of a ``PoseCNN`` trained from scratch on the labels of ``rows``.

    Reads images, masks and joints of ``rows`` in the shards ``crops`` and of no other row. Writes the
    CSV ``curves`` and resumes from ``scratch``.
    """
    shards = CropShards.open(crops)
    fabric = make_fabric(precision=precision, threads=threads, device=device)
    joints_mm = shards.table["joints_mm"].astype(np.float32)
    with seeded(seed, "control CNN"):
        network = PoseCNN(crop_size_px=shards.crop_size_px, dropout=recipe.dropout)
    network.scale.set_from(joints_mm[rows])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss_step(batch: Batch) -> Mapping[str, Tensor]:
        with torch.autocast(fabric.device.type, enabled=False):
            images, target = augmented_batch(
                images=images_to_tensor(shards.images[batch.rows], fabric.device),
                masks=images_to_tensor(shards.masks[batch.rows][..., None], fabric.device),
                backgrounds=images_to_tensor(shards.backgrounds[batch.rows], fabric.device),
                joints_mm=torch.from_numpy(joints_mm[batch.rows]).to(fabric.device),
                recipe=recipe,
                generator=batch.generator,
            )
        predicted = network(images.contiguous(memory_format=torch.channels_last))
        distance = (predicted.detach() - target).norm(dim=-1).mean()
        return {"total": network.scale.loss(predicted, target), "mpjpe_17_mm": distance}

    fit(
        modules={"cnn": network},
        loss_step=loss_step,
        sampler=RowSampler(rows, recipe.batch_size, seed),
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        warmup_steps=recipe.warmup_steps,
        clip_norm=recipe.clip_norm,
        seed=seed,
        fabric=fabric,
        scratch=scratch,
        curves=curves,
        desc=name,
    )
    return {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}


def train_cnns(
    *,
    crops: Path,
    rows: Mapping[str, np.ndarray],
    recipe: CnnRecipe,
    seed: int,
    precision: str,
    device: str,
    scratch: Path,
    curves: Path,
) -> dict[str, dict[str, Tensor]]:
    """State dicts by name of one CNN for each entry of ``rows``, trained side by side.

    One process of one thread for each: on small images that uses two cores better than two threads
    do. ``curves`` gets the rows of all, with a first column ``network``.
    """
    files = {name: scratch / name / "curves.csv" for name in rows}
    train = partial(
        _train_named, rows=rows, curves=files, scratch=scratch,
        settings={
            "crops": crops, "recipe": recipe, "seed": seed, "precision": precision, "device": device, "threads": 1
        },
    )  # fmt: skip
    states = list(in_parallel(train, rows, total=len(rows), desc="control CNNs", jobs=len(rows)))
    merge_curves(files, curves)
    return dict(zip(rows, states, strict=True))


def _train_named(
    name: str,
    *,
    rows: Mapping[str, np.ndarray],
    curves: Mapping[str, Path],
    scratch: Path,
    settings: Mapping[str, Any],
) -> dict[str, Tensor]:
    return train_cnn(name=name, rows=rows[name], scratch=scratch / name, curves=curves[name], **settings)


def merge_curves(files: Mapping[str, Path], merged: Path) -> None:
    """Writes the rows of CSV ``files`` of equal columns to one CSV with their names in ``network``."""
    lines: list[str] = []
    for name, file in files.items():
        header, *values = file.read_text().splitlines()
        lines = lines or [f"network,{header}"]
        lines += [f"{name},{value}" for value in values]
    merged.parent.mkdir(parents=True, exist_ok=True)
    merged.write_text("\n".join(lines) + "\n")
