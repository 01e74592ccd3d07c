"""Types of this folder's fixtures, Git as nobody in particular, and what DVC says, read."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
Copy = Callable[..., Path]

GIT = ("git", "-c", "user.name=geobody", "-c", "user.email=geobody@localhost")


def git(repository: Path, *command: str) -> str:
    """What Git says to ``command`` in ``repository``; it need not know who commits."""
    return subprocess.run(
        [*GIT, *command], cwd=repository, check=True, capture_output=True, text=True
    ).stdout  # fmt: skip


def computed(said: str) -> set[str]:
    """The stages that a ``dvc repro`` ran; those that it took from its cache or left alone are not among them."""
    return set(re.findall(r"^Running stage '([a-z_]+)", said, re.MULTILINE))


def restored(said: str) -> set[str]:
    """The stages whose outputs a ``dvc repro`` took from the run cache."""
    return set(re.findall(r"^Stage '([a-z_]+)[^']*' is cached - skipping run", said, re.MULTILINE))
