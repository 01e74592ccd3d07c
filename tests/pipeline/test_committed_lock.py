"""The committed lock is that of the committed code and params: nobody has to run it to know."""

from pathlib import Path

from geobody.paths import STAGES
from pipeline_types import Run
from tools.smoke import copy_repository


def test_a_clone_without_data_has_nothing_to_run(tmp_path: Path, python_m: Run) -> None:
    clone = copy_repository(tmp_path)
    done = python_m(clone, "dvc", "repro", "--dry", "--allow-missing")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("didn't change, skipping") == len(STAGES), done.stdout
    assert "Running stage" not in done.stdout
