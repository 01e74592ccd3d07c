"""What one pushes another pulls: nothing is computed again."""

from pathlib import Path

import pytest

from geobody.paths import STAGES
from pipeline_types import Copy, Run, computed, git


@pytest.mark.slow
def test_push_clone_pull_and_repro_runs_nothing(copy_of_tiny: Copy, python_m: Run, tmp_path: Path) -> None:
    ours, theirs = copy_of_tiny("pushed"), tmp_path / "clone"
    assert (
        python_m(ours, "dvc", "remote", "add", "--default", "shelf", str(tmp_path / "shelf")).returncode == 0
    )
    git(ours, "add", "--all")
    git(ours, "commit", "--quiet", "--message", "Run the tiny profile, name a remote")
    done = python_m(ours, "dvc", "push")
    assert done.returncode == 0, done.stderr
    git(tmp_path, "clone", "--quiet", str(ours), str(theirs))
    assert not (theirs / "data/crops").exists()

    done = python_m(theirs, "dvc", "pull")
    assert done.returncode == 0, done.stderr
    done = python_m(theirs, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert computed(done.stdout) == set()
    assert done.stdout.count("didn't change, skipping") == len(STAGES)
    assert git(theirs, "status", "--porcelain") == ""
    for spec in STAGES.values():
        for path in spec.outputs.values():
            pairs = [(theirs / path, ours / path)]
            if (ours / path).is_dir():
                pairs = [
                    (theirs / file.relative_to(ours), file)
                    for file in (ours / path).rglob("*")
                    if file.is_file()
                ]
            assert pairs and all(mine.read_bytes() == other.read_bytes() for mine, other in pairs), path
