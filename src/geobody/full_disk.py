"""Recognises a full disk behind the many errors that libraries make of it."""

import errno
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEXT = re.compile(
    # safetensors gives the system's words alone; numpy's ``tofile`` counts what it could not write.
    r"No space left on device|Disk quota exceeded|File too large|^\d+ requested and \d+ written$"
)
_NEARLY_NONE = 1 << 20


def full_disk(error: BaseException, folders: Iterable[Path]) -> str | None:
    """Where the disk is full if that is what ``error`` or one of its causes says, else None.

    Most libraries keep the file's name to themselves; then it is the first of ``folders``, or of the
    system's own temporary ones, on a disk that has less than a MiB left.
    """
    for one in _chain(error):
        if (isinstance(one, OSError) and one.errno in _ERRNOS) or _TEXT.search(str(one)):
            named = one.filename if isinstance(one, OSError) else None
            return str(named or _fullest(list(folders)))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _fullest(folders: list[Path]) -> Path:
    for folder in [*folders, Path(tempfile.gettempdir()), Path("/dev/shm")]:
        if folder.exists():
            disk = os.statvfs(folder)
            if disk.f_bavail * disk.f_frsize < _NEARLY_NONE:
                return folder
    return folders[0]
