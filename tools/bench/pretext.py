"""Seconds of real training steps of an arm's pretext on the crops that `dvc repro` made."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from geobody.config import load_params
from geobody.data.crops import ARRAYS, CropShards
from geobody.models.arm import LossWeights
from geobody.models.encoder_decoder_training import QUAD, Recipe, train_encoder_decoder

STEPS = 12


def train_steps(repository: Path, crops: CropShards, *, arm: str, steps: int, threads: int) -> None:
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


def in_memory(crops: CropShards, *, batch_size: int) -> CropShards:
    """As many instants of one sequence as a batch has quadruples, in memory: the same work without a loader."""
    views = crops.views(split="train")
    rows = np.sort(views[: batch_size // QUAD].reshape(-1))
    arrays = {name: np.array(getattr(crops, name)[rows]) for name in ARRAYS}
    return replace(crops, **arrays, table={name: column[rows] for name, column in crops.table.items()})
