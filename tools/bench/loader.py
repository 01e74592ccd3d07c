"""Steps of the pretext on the mapped shards, beside the same steps on one batch that lies in memory.

At least 0.95 of the samples a second is aimed at, so at most 1 / 0.95 of the time.
"""

from pathlib import Path

from geobody.config import load_params
from geobody.data.crops import CropShards
from tools.bench.timing import Comparison, compare
from tools.bench.trainings import STEPS, in_memory, pretext_steps

GOAL = 1 / 0.95


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares the default arm's training on the crops of ``repository``."""
    params = load_params(repository / "params.yaml")
    arm, threads = params.encdec.arm, params.training.threads
    crops = CropShards.open(repository / "data/crops")
    batch = in_memory(crops, batch_size=params.encdec.batch_size)

    def train(some: CropShards) -> None:
        pretext_steps(repository, some, arm=arm, steps=STEPS, threads=threads)

    return compare(
        subject=(f"{STEPS} steps of {arm} from the shards", lambda: train(crops)),
        reference=(f"{STEPS} steps of {arm} from one batch in memory", lambda: train(batch)),
        repeats=repeats,
        goal=GOAL,
    )
