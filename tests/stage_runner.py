"""Runs a data stage on a small tree as a user does, in a folder of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from h36m_tree import Tree

ROOT = Path(__file__).resolve().parents[1]


def run_stage(
    tree: Tree, folder: Path, name: str, *, crops: dict[str, Any] | None = None, **dataset: Any
) -> subprocess.CompletedProcess[str]:
    """`python -m stages.NAME` in ``folder``, with the tree's path and subjects 1 and 9 in the params."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["dataset"] |= {
        "root": str(tree.root),
        "train_subjects": [1],
        "test_subjects": [9],
        **dataset,
    }
    params["crops"] |= crops or {}
    return run_with(params, folder, name)


def run_with(params: dict[str, Any], folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """`python -m stages.NAME` in ``folder`` with these params."""
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"stages.{name}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
