"""``dvc repro`` with nothing to do, beside ``dvc status`` of an empty pipeline.

The goal is missed. On two busy cores the ratio of CPU time was 3.3 on the tiny profile and 5.9 on the default one,
with YAML read in pure Python; ``ruamel.yaml.clib`` brings them to 2.5 and 5.0. No single thing costs the rest
(``python -m cProfile -s cumtime .venv/bin/dvc repro``): DVC loads and locks 12 stages, looks up some 300 dependencies
and outputs one by one, and walks each folder, on the default profile with its thousands of images.
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
