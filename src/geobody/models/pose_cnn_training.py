"""Training of the control CNNs, one process for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geobody.data.crops import CropShards
from geobody.models.pose_batches import Augmentation, labelled_joints
from geobody.models.pose_cnn import PoseCNN
from geobody.models.pose_step import pose_step
from geobody.parallel import in_parallel
from geobody.training.curves import merge_curves
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import RowSampler, fit
from geobody.training.schedule import Schedule


@dataclass(frozen=True)
class CnnRecipe:
    """How a control CNN is trained: ``schedule`` as in ``params.yaml: controls``, a batch being images,
    ``heat_weight`` as in ``pose_loss``, ``track`` as in ``training``, and ``augmentation``."""

    schedule: Schedule
    heat_weight: float
    augmentation: Augmentation
    track: str


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
    placed_mm = labelled_joints(shards, rows)
    with seeded(seed, "control CNN"):
        network = PoseCNN(crop_size_px=shards.crop_size_px, track=recipe.track)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    fit(
        modules={"cnn": network},
        loss_step=pose_step(
            network,
            shards,
            placed_mm,
            augmentation=recipe.augmentation,
            heat_weight=recipe.heat_weight,
            device=fabric.device,
        ),
        sampler=RowSampler(rows, seed),
        schedule=recipe.schedule,
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
    recipes: Mapping[str, CnnRecipe],
    seed: int,
    precision: str,
    device: str,
    scratch: Path,
    curves: Path,
) -> dict[str, dict[str, Tensor]]:
    """State dicts by name of one CNN for each entry of ``rows`` and ``recipes``, trained side by side.

    One process of one thread for each: on small images that uses two cores better than two threads
    do. ``curves`` gets the rows of all, with a first column ``network``.
    """
    files = {name: scratch / name / "curves.csv" for name in rows}
    train = partial(
        _train_named, rows=rows, recipes=recipes, curves=files, scratch=scratch,
        settings={"crops": crops, "seed": seed, "precision": precision, "device": device, "threads": 1},
    )  # fmt: skip
    states = list(in_parallel(train, rows, total=len(rows), desc="control CNNs", jobs=len(rows)))
    merge_curves(files, curves, column="network")
    return dict(zip(rows, states, strict=True))


def _train_named(
    name: str,
    *,
    rows: Mapping[str, np.ndarray],
    recipes: Mapping[str, CnnRecipe],
    curves: Mapping[str, Path],
    scratch: Path,
    settings: Mapping[str, Any],
) -> dict[str, Tensor]:
    return train_cnn(
        name=name,
        rows=rows[name],
        recipe=recipes[name],
        scratch=scratch / name,
        curves=curves[name],
        **settings,
    )
