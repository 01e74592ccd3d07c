"""The default arm's training beside the thesis' network's, at the same crop size and the same batches.

Twice the samples a second is aimed at, so half of the time.
"""

from pathlib import Path

from geobody.config import load_params
from geobody.data.crops import CropShards
from tools.bench.pretext import STEPS, train_steps
from tools.bench.timing import Comparison, compare

GOAL = 0.5


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares both on the crops of ``repository``."""
    params = load_params(repository / "params.yaml")
    crops, threads = CropShards.open(repository / "data/crops"), params.training.threads

    def train(arm: str) -> None:
        train_steps(repository, crops, arm=arm, steps=STEPS, threads=threads)

    arm = params.encdec.arm
    return compare(
        subject=(f"{STEPS} steps of {arm}", lambda: train(arm)),
        reference=(f"{STEPS} steps of thesis", lambda: train("thesis")),
        repeats=repeats,
        goal=GOAL,
    )
