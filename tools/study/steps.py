"""What a training step of each network costs on one core of this machine, for equal budgets."""

import csv
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from geobody.config import load_params
from geobody.data.crops import CropShards
from geobody.data.labels import label_splits
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.models.pose_batches import Augmentation, labelled_joints
from geobody.models.pose_cnn_training import CnnRecipe, train_cnn
from geobody.models.pose_network import PoseNetwork, predict_rows
from geobody.models.pose_tuning import multiview_labels
from tools.bench.trainings import pretext_steps, tuning_steps

COLUMNS: Final = ("work", "unit", "batch_size", "core_seconds")
FEW: Final = 8
REPEATS: Final = 3
FEW_INSTANTS: Final = 40


def measure(repository: Path, arms: list[str]) -> list[tuple[str, str, int, float]]:
    """Rows of ``COLUMNS``: seconds of one core for a step of each pretext, CNN and pose network, and for fits.

    A step's cost is the difference between a longer and a shorter training, an instant's that between more and fewer
    fits: what both set up cancels.
    """
    torch.set_num_threads(1)
    params = load_params(repository / "params.yaml")
    crops = CropShards.open(repository / "data/crops")
    rows = label_splits(crops.table, **params.labels.model_dump())["cnn_s1"].train
    augmentation = Augmentation(**params.augmentation.model_dump())
    loss = params.pose_loss.model_dump()
    common: dict[str, Any] = {
        "seed": 0,
        "precision": params.training.precision,
        "threads": 1,
        "device": "cpu",
    }

    def pretext(arm: str) -> Callable[[int], None]:
        return lambda steps: pretext_steps(repository, crops, arm=arm, steps=steps, threads=1)

    def cnn(steps: int) -> None:
        schedule = replace(params.controls.schedule(), steps=steps, warmup_steps=1)
        recipe = CnnRecipe(schedule=schedule, **loss, augmentation=augmentation, track=params.training.track)
        with tempfile.TemporaryDirectory(prefix="geobody-bench-") as folder:
            train_cnn(
                name="cnn", crops=repository / "data/crops", rows=rows, recipe=recipe, scratch=Path(folder),
                curves=Path(folder) / "curves.csv", **common,
            )  # fmt: skip

    def tuning(steps: int) -> None:
        tuning_steps(repository, crops, rows, steps=steps, threads=1)

    found = []
    for arm in arms:
        found.append((f"pretext {arm}", "step", params.encdec.batch_size, _per_unit(pretext(arm), FEW)))
    found.append(("control CNN", "step", params.controls.batch_size, _per_unit(cnn, FEW)))
    found.append(("pose network", "step", params.tuning.batch_size, _per_unit(tuning, FEW)))

    others = sorted(set(crops.train_subjects) - set(params.labels.subjects))
    views = crops.views(split="train", subjects=others)
    some = views[np.linspace(0, len(views) - 1, 3 * FEW_INSTANTS).astype(int)]
    network = PoseNetwork(
        make_encoder_decoder(arm="rhodin", crop_size_px=crops.crop_size_px, track=params.training.track)
    ).eval()

    def fits(instants: int) -> None:
        predicted = predict_rows(
            network,
            crops,
            some[:instants].reshape(-1),
            heat_maps=params.tuning.heat_maps,
            device=torch.device("cpu"),
        )
        multiview_labels(
            predicted, crops, views=some[:instants], labelled=rows, placed_mm=labelled_joints(crops, rows),
            silhouettes=params.tuning.silhouettes,
        )  # fmt: skip

    found.append(("fits", "instant", 1, _per_unit(fits, FEW_INSTANTS)))
    return found


def write(path: Path, found: list[tuple[str, str, int, float]]) -> None:
    """Writes the rows to a CSV."""
    with path.open("w", newline="") as file:
        lines = [(*row[:3], f"{row[3]:.4f}") for row in found]
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *lines])


def read(path: Path) -> dict[str, float]:
    """Work -> seconds of one core for an image, or for an instant. Raises ValueError when the file is missing."""
    if not path.is_file():
        raise ValueError(f"{path}: is missing; make it with: python -m tools.study steps")
    with path.open(newline="") as file:
        return {
            row["work"]: float(row["core_seconds"]) / int(row["batch_size"]) for row in csv.DictReader(file)
        }


def _per_unit(work: Callable[[int], None], few: int) -> float:
    """Seconds of one core for each of the steps, or instants, that ``work`` is asked for."""

    def seconds(units: int) -> float:
        start = time.process_time()
        work(units)
        return time.process_time() - start

    seconds(2)
    costs = [(seconds(3 * few) - seconds(few)) / (2 * few) for _ in range(REPEATS)]
    return float(np.median(costs))
