"""The whole DAG on the tiny profile, run once for all tests of this folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_types import Run
from tools.smoke import copy_repository, stage_environment, use_profile


def _run(repository: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=repository, env=stage_environment(), capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def python_m() -> Run:
    """``python_m(repository, "dvc", "status")`` runs ``python -m dvc status`` there."""
    return _run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which ``dvc repro`` has run the tiny profile; tests must leave it as it is."""
    repository = copy_repository(tmp_path_factory.mktemp("tiny"))
    use_profile(repository, "tiny")
    done = _run(repository, "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (repository / "logs" / "repro.txt").write_text(done.stdout)
    return repository
