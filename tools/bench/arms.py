"""The default arm's pretext beside the thesis' network's, at the same crop size and the same batches.

Twice the samples a second is aimed at, so half of the time.
"""

from pathlib import Path

from geobody.config import load_params
from geobody.data.crops import CropShards
from tools.bench.timing import Comparison, compare
from tools.bench.trainings import STEPS, pretext_steps

GOAL = 0.5


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares both on the crops of ``repository``."""
    params = load_params(repository / "params.yaml")
    crops, threads = CropShards.open(repository / "data/crops"), params.training.threads

    def train(arm: str) -> None:
        pretext_steps(repository, crops, arm=arm, steps=STEPS, threads=threads)

    arm = params.encdec.arm
    return compare(
        subject=(f"{STEPS} steps of {arm}", lambda: train(arm)),
        reference=(f"{STEPS} steps of thesis", lambda: train("thesis")),
        repeats=repeats,
        goal=GOAL,
    )
