"""The whole DAG on the tiny profile, run once for all tests of this folder and all workers, and copies of it.

A shortcut for developers: ``GEOBODY_TINY=/path/to/a/repository`` names one in which ``dvc repro`` has run the
tiny profile on the code that is under test (``cp -a`` a finished ``tiny``); tests then start from a copy of it
(one test reads what that run said from its ``logs/repro.txt``).
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline_types import Copy, Run
from tools.smoke import copy_repository, stage_environment, use_profile


def _run(repository: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=repository, env={**stage_environment(), **environment}, capture_output=True, text=True,
    )  # fmt: skip


def _copy(source: Path, target: Path) -> Path:
    """``target``, byte for byte: own files, linked among themselves alone, so nothing writes through."""
    subprocess.run(["cp", "--archive", "--reflink=auto", f"{source}/.", str(target)], check=True)
    return target


@pytest.fixture(scope="session")
def python_m() -> Run:
    """``python_m(repository, "dvc", "status")`` runs ``python -m dvc status`` there; keywords: environment."""
    return _run


def _made_once(place: Path) -> Path:
    """The repository in the folder ``place`` that all workers share; whoever comes first makes it, others wait."""
    made = place / "tiny"
    with (place / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            repository = copy_repository(Path(tempfile.mkdtemp(prefix="tiny-", dir=place)))
            use_profile(repository, "tiny")
            done = _run(repository, "dvc", "repro")
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            (repository / "logs" / "repro.txt").write_text(done.stdout)
            repository.rename(made)
    return made


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which ``dvc repro`` has run the tiny profile; tests must leave it as it is."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    source = Path(os.environ.get("GEOBODY_TINY") or _made_once(shared))
    return _copy(source, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def copy_of_tiny(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """``copy_of_tiny()`` is a new repository like ``tiny`` that a test may change: two seconds each."""

    def copy(name: str = "copy") -> Path:
        return _copy(tiny, tmp_path_factory.mktemp(name))

    return copy
