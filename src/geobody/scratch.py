"""Where the checkpoints of unfinished work live, under whose name, and who may write there.

The name is made from all that the result depends on: the same work finds its checkpoint again, other
work never does.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from geobody.dependencies import ROOT, stage_modules
from geobody.errors import DataError

FOLDER = ".scratch"
PATIENCE_SECONDS = 5.0
"""How long a lock may take: a run whose ``dvc`` was killed needs a moment to end."""
_POLL_SECONDS = 0.1
_EXPERIMENTS = (".dvc", "tmp", "exps")


def scratch_root(folder: Path) -> Path:
    """``.scratch`` of the repository that ``folder`` is, or that it is a temporary experiment of.

    ``dvc exp run --temp`` and ``--queue`` work in ``.dvc/tmp/exps/<name>/`` of the repository.
    """
    parts = folder.parts
    for start in range(len(parts) - len(_EXPERIMENTS)):
        if parts[start : start + len(_EXPERIMENTS)] == _EXPERIMENTS:
            return Path(*parts[:start]) / FOLDER
    return folder / FOLDER


def fingerprint(name: str, params: Mapping[str, Any], inputs: Mapping[str, Path]) -> str:
    """Sixteen hex digits over the stage's code, its params, its inputs' names and bytes, torch's version."""
    digest = hashlib.sha256(json.dumps([params, metadata.version("torch")], sort_keys=True).encode())
    for path in sorted(stage_modules(name)):
        digest.update((ROOT / path).read_bytes())
    for key, path in inputs.items():
        for file in _files(path):
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(json.dumps([key, str(file.relative_to(path)), content]).encode())
    return digest.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


class Lock:
    """A file that one process at a time holds; the system releases it however the process ends."""

    def __init__(self, path: Path, work: str) -> None:
        """Waits a few seconds for the lock; raises ``DataError`` when another process keeps it.

        ``work`` says what the other process is doing.
        """
        self.path = path
        patience = time.monotonic() + PATIENCE_SECONDS
        while not self._taken():
            if time.monotonic() > patience:
                holder = path.read_text().strip() if path.exists() else ""
                who = f"process {holder}" if holder else "another process"
                raise DataError(path, f"{who} {work}", "wait until it has ended, or end it, and run again")
            time.sleep(_POLL_SECONDS)

    def _taken(self) -> bool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have removed the file meanwhile: then this is a lock on nothing.
            if os.stat(self.path).st_ino != os.fstat(descriptor).st_ino:
                os.close(descriptor)
                return False
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Removes the file and lets the next one in."""
        self.path.unlink(missing_ok=True)  # before the lock goes: later it might be the next one's
        os.close(self._descriptor)


class Scratch:
    """The folder of one piece of work, locked against a twin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = Lock(folder / "lock", "is at the same work")
        for torn in folder.rglob(".tmp-*"):
            torn.unlink()

    def close(self, *, keep: bool) -> bool:
        """Lets a twin in; ``keep`` leaves what was saved. Returns whether anything is left."""
        saved = [path for path in self.folder.iterdir() if path != self._lock.path]
        left = keep and any(path.is_file() for entry in saved for path in (entry, *entry.rglob("*")))
        for path in [] if left else saved:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._lock.release()
        with suppress(OSError):  # a checkpoint or a twin is in it
            self.folder.rmdir()
        return left


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Holds the lock ``path`` during the block; errors as of ``Lock``."""
    lock = Lock(path, work)
    try:
        yield
    finally:
        lock.release()
