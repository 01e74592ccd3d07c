"""Steps of the default profile's pose network on the mapped shards, beside the same steps on one batch in memory.

At least 0.95 of the samples a second is aimed at, so at most 1 / 0.95 of the time.
"""

from pathlib import Path

import numpy as np

from geobody.config import load_params
from geobody.data.crops import CropShards
from tools.bench.loader import GOAL
from tools.bench.timing import Comparison, compare
from tools.bench.trainings import in_memory, pose_steps_for, tuning_steps


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares both on the labelled crops of ``repository``."""
    params = load_params(repository / "params.yaml")
    crops = CropShards.open(repository / "data/crops")
    rows, steps = crops.rows(subjects=params.labels.subjects, split="train"), pose_steps_for(params)
    batch = in_memory(crops, batch_size=params.tuning.batch_size)

    def train(some: CropShards, labelled: np.ndarray) -> None:
        tuning_steps(repository, some, labelled, steps=steps, threads=params.training.threads)

    return compare(
        subject=(f"{steps} steps of the pose network from the shards", lambda: train(crops, rows)),
        reference=(
            f"{steps} steps of the pose network from one batch in memory",
            lambda: train(batch, np.arange(len(batch))),
        ),
        repeats=repeats,
        goal=GOAL,
    )
