"""``dvc repro`` with nothing to do, beside ``dvc status`` of an empty pipeline.

Wall time is judged, as in every benchmark here; CPU time stands beside it. The goal was missed whenever this was
measured, and ``make bench`` says by how much today. No single thing costs it (``python -m cProfile -s cumtime
.venv/bin/dvc repro``): DVC loads and locks every stage, looks up each dependency and output one by one, and walks
each folder with all of its files, so that the time grows with the DAG and with the data. YAML read in pure Python
would add to it: ``ruamel.yaml.clib`` reads it in C.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tools.bench.timing import Comparison, compare
from tools.smoke import stage_environment

GOAL = 2.0


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares in ``repository``, which must be up to date: else ``SystemExit`` says how to get there."""
    if _dvc(repository, "status", "--quiet").returncode:
        raise SystemExit(
            f"error: {repository}: is not up to date, so dvc repro has work to do; run: make repro"
        )
    with tempfile.TemporaryDirectory(prefix="geobody-bench-") as folder:
        empty = Path(folder)
        subprocess.run(["git", "init", "--quiet"], cwd=empty, check=True)
        _dvc(empty, "init", "--quiet")
        (empty / "dvc.yaml").write_text("stages: {}\n")
        return compare(
            subject=("dvc repro with nothing to do", lambda: _must(repository, "repro")),
            reference=("dvc status of an empty pipeline", lambda: _must(empty, "status")),
            repeats=repeats,
            goal=GOAL,
        )


def _must(repository: Path, command: str) -> None:
    done = _dvc(repository, command)
    if done.returncode or "Running stage" in done.stdout:
        raise SystemExit(
            f"error: dvc {command}: did not do nothing in {repository}:\n{done.stdout}{done.stderr}"
        )


def _dvc(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=repository, env=stage_environment(), capture_output=True, text=True)
