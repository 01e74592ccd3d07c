"""The trainings, and what measures them on training subjects, make the same bytes where the truth is gone."""

import hashlib
import shutil
from pathlib import Path

import pytest

from geobody.paths import STAGES
from pipeline_types import Copy, Run

TRUTH = STAGES["synth"].outputs["truth"]
TRAININGS = ("encdec", "pose_head", "controls", "gan_prior", "smpl_regressor", "validation")


def hashes(repository: Path) -> dict[str, str]:
    """Path -> digest of each file that the stages of ``TRAININGS`` write."""
    paths = [path for name in TRAININGS for path in STAGES[name].written().values()]
    return {path: hashlib.sha256((repository / path).read_bytes()).hexdigest() for path in paths}


@pytest.mark.slow
def test_without_the_truth_every_training_makes_what_it_made_and_eval_stops(
    copy_of_tiny: Copy, python_m: Run
) -> None:
    repository = copy_of_tiny("without_truth")
    before = hashes(repository)
    shutil.rmtree(repository / TRUTH)
    shutil.rmtree(repository / ".dvc/cache")  # the truth is in there as well, and so is all that was trained
    for path in before:
        (repository / path).unlink()
    for name in TRAININGS:
        done = python_m(repository, f"stages.{name}")
        assert done.returncode == 0, f"{name}: {done.stderr}"
    assert hashes(repository) == before
    done = python_m(repository, "stages.eval")
    assert done.returncode == 3
    assert f"{TRUTH}/truth.parquet" in done.stderr
