"""Files as Git has them. A run of the pipeline on another kind of processor leaves others in the checkout
(docs/reproducibility.md), which what is written about the committed ones need not agree with."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def committed(path: Path) -> str:
    """The text of a file of this repository in the last commit."""
    command = ["git", "show", f"HEAD:{path.relative_to(ROOT)}"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
