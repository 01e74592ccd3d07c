"""The default profile's pose network beside the thesis' network, at the same crop size and as many images.

Twice the samples a second is aimed at, so half of the time.
"""

from pathlib import Path

from geobody.config import load_params
from geobody.data.crops import CropShards
from tools.bench.timing import Comparison, compare
from tools.bench.trainings import STEPS, pose_steps_for, pretext_steps, tuning_steps

GOAL = 0.5


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares both on the crops of ``repository``."""
    params = load_params(repository / "params.yaml")
    crops, threads = CropShards.open(repository / "data/crops"), params.training.threads
    rows, steps = crops.rows(subjects=params.labels.subjects, split="train"), pose_steps_for(params)
    return compare(
        subject=(
            f"{steps} steps of the pose network",
            lambda: tuning_steps(repository, crops, rows, steps=steps, threads=threads),
        ),
        reference=(
            f"{STEPS} steps of thesis",
            lambda: pretext_steps(repository, crops, arm="thesis", steps=STEPS, threads=threads),
        ),
        repeats=repeats,
        goal=GOAL,
    )
