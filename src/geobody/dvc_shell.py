"""Ends a stage when the ``dvc`` that started it has died, through whatever shell DVC took.

DVC runs a stage's command in a shell. Bash becomes the command, so that dvc is the stage's parent; dash
stays between them, and would live on when dvc is killed.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from geobody.interruption import WATCH_SECONDS, end_with_parent


def end_with_dvc(end: Callable[[], object]) -> None:
    """Starts threads that call ``end`` when this process' parent has died, or the dvc behind that shell."""
    end_with_parent(end)
    shell = os.getppid()
    dvc = parent_of(shell) if runs_a_stage(shell) else None
    if dvc is None:
        return

    def watch() -> None:
        while parent_of(shell) == dvc:
            time.sleep(WATCH_SECONDS)
        end()

    threading.Thread(target=watch, name="end_with_dvc", daemon=True).start()


def runs_a_stage(pid: int) -> bool:
    """Whether the process is a shell with a stage's command; False where there is no ``/proc``."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"-c" in arguments[:-1] and any(b" -m stages." in argument for argument in arguments)


def parent_of(pid: int) -> int | None:
    """Who the process' parent is; None when the process is gone, or where there is no ``/proc``."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1])
