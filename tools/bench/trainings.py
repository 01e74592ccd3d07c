"""Real training steps on the crops that `dvc repro` made: of an arm's pretext, and of the network that finds poses."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geobody.config import Params, load_params
from geobody.data.crops import ARRAYS, CropShards
from geobody.models.arm import LossWeights
from geobody.models.encoder_decoder import new_encoder_decoder
from geobody.models.encoder_decoder_training import QUAD, Recipe, train_encoder_decoder
from geobody.models.pose_batches import Augmentation
from geobody.models.pose_tuning import TuningRecipe, tune

STEPS = 12
"""Of a pretext; a network for poses takes as many images in other batches, see `pose_steps_for`."""


def pretext_steps(repository: Path, crops: CropShards, *, arm: str, steps: int, threads: int) -> None:
    """Trains ``arm`` for a few steps, with the settings of ``repository``'s params, and drops the result."""
    params = load_params(repository / "params.yaml")
    settings = params.encdec
    with tempfile.TemporaryDirectory(prefix="geobody-bench-") as folder:
        train_encoder_decoder(
            crops,
            subjects=None,
            arm=arm,
            track=params.training.track,
            feature_loss=settings.feature_loss,
            feature_weights=repository / settings.feature_weights,
            recipe=Recipe.from_params(settings.model_dump()),
            weights=LossWeights.from_params(settings.model_dump()),
            held_out_fraction=0.0,
            schedule=replace(settings.schedule(), steps=steps, learning_rate=1e-4, warmup_steps=1),
            seed=0,
            precision=params.training.precision,
            threads=threads,
            device="cpu",
            scratch=Path(folder),
            curves=Path(folder) / "curves.csv",
        )


def tuning_steps(
    repository: Path, crops: CropShards, rows: NDArray[np.int64], *, steps: int, threads: int
) -> None:
    """Trains the default profile's pose network on labelled ``rows`` (N,) for a few steps, and drops the result."""
    params = load_params(repository / "params.yaml")
    recipe = TuningRecipe(
        schedule=replace(params.tuning.schedule(), steps=steps, warmup_steps=1),
        **params.tuning.beside_schedule("start"),
        **params.pose_loss.model_dump(),
        augmentation=Augmentation(**params.augmentation.model_dump()),
    )
    arm = new_encoder_decoder(
        arm="scratch", crop_size_px=crops.crop_size_px, track=params.training.track, seed=0
    )
    with tempfile.TemporaryDirectory(prefix="geobody-bench-") as folder:
        tune(
            arm.requires_grad_(False),
            crops=crops,
            labelled=rows,
            unlabelled_views=np.zeros((0, 0), np.int64),
            recipe=recipe,
            seed=0,
            precision=params.training.precision,
            threads=threads,
            device="cpu",
            scratch=Path(folder),
            curves=Path(folder) / "curves.csv",
        )


def pose_steps_for(params: Params) -> int:
    """Steps of the pose network that take as many images as ``STEPS`` of a pretext."""
    return STEPS * params.encdec.batch_size // params.tuning.batch_size


def in_memory(crops: CropShards, *, batch_size: int) -> CropShards:
    """As many instants of one sequence as a batch has quadruples, in memory: the same work without a loader."""
    views = crops.views(split="train")
    rows = np.sort(views[: batch_size // QUAD].reshape(-1))
    arrays = {name: np.array(getattr(crops, name)[rows]) for name in ARRAYS}
    return replace(crops, **arrays, table={name: column[rows] for name, column in crops.table.items()})
