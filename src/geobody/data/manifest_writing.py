"""Writes and verifies the manifest of a data set, one folder in memory at a time.

Listing and hashing are apart: a listing is a stream of folders with each file's size and time of
change, and a file that the journal knows in that state is not read again.
"""

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from geobody.data.manifest import PARTS, SCHEMA, bytes_and_sha256, read_rows
from geobody.data.manifest_journal import Journal, State
from geobody.errors import DataError
from geobody.progress import progress

SUFFIXES: Final = {
    "annotations": (".mat",),
    "images": (".jpg", ".png", ".mat"),
    "masks": (".jpg", ".png"),
    "truth": (".parquet",),
}
"""What is listed of each part, in lower case alone; other files and hidden ones are not the data set's."""

_ROWS_PER_GROUP: Final = 65_536
_FILES_PER_TASK: Final = 1024


@dataclass(frozen=True)
class Folder:
    """Files of one folder, sorted by name."""

    path: str
    """Relative to the root, with ``/``."""
    files: list[State]
    """(name, bytes, time of change in ns)"""
    misspelt: list[str]
    """Sorted names that end as the data set's files do but for capitals (``.JPG``): these are not used."""


@dataclass(frozen=True)
class Written:
    """What writing a manifest took."""

    files: int
    hashed: int
    """Files that the journal did not know."""


def list_folders(root: Path, part: str) -> Iterator[Folder]:
    """Folders of a part of the data set that hold files, misspelt ones too, in a fixed order, one at a time.

    Links are followed, so that the parts of a data set may lie anywhere; one that leads nowhere is an OSError.
    """
    waiting = [part]
    while waiting:
        path = waiting.pop()
        files, misspelt, below = [], [], []
        with os.scandir(root / path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    below.append(f"{path}/{entry.name}")
                elif entry.name.endswith(SUFFIXES[part]):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        files.append((entry.name, status.st_size, status.st_mtime_ns))
                elif entry.name.lower().endswith(SUFFIXES[part]):
                    misspelt.append(entry.name)
        if files or misspelt:
            yield Folder(path, sorted(files), sorted(misspelt))
        waiting.extend(sorted(below, reverse=True))


def parts_of(root: Path) -> list[str]:
    """The parts of the data set ``root`` that are there. Raises DataError when the images are not."""
    if not (root / "images").is_dir():
        cure = "give the folder that holds images/, masks/ and perhaps annotations/ (links will do)"
        raise DataError(root, "has no folder images/" if root.is_dir() else "is no folder", cure)
    return [part for part in PARTS if (root / part).is_dir()]


def write_manifest(path: Path, *, journal: Path | None = None, threads: int | None = None) -> Written:
    """Writes the manifest ``path`` of every file of the data set in its folder.

    Rows are sorted by part and folder, whatever the file system's order; files are hashed by ``threads``
    threads (default: as many as cores, at most 16). With a ``journal``, a run that is killed goes on where
    it was. Raises DataError when there is no image.
    """
    root, total, hashed = path.parent, 0, 0
    temporary = path.with_name(f".tmp-{path.name}")
    parts = parts_of(root)
    with ExitStack() as stack:
        stack.callback(temporary.unlink, missing_ok=True)
        pool = stack.enter_context(_pool(threads))
        kept = stack.enter_context(Journal(journal)) if journal else None
        rows = stack.enter_context(_Rows(temporary))
        for part in parts:
            before = total
            for folder in progress(list_folders(root, part), total=_folders(root, part), desc=f"{part}/"):
                known = kept.known(folder.path) if kept else {}
                for first in range(0, len(folder.files), _FILES_PER_TASK):
                    files = folder.files[first : first + _FILES_PER_TASK]
                    unknown = [file for file in files if file not in known]
                    places = [root / folder.path / name for name, _, _ in unknown]
                    new = dict(zip(unknown, pool.map(bytes_and_sha256, places), strict=True))
                    for file, (size, _) in new.items():
                        if size != file[1]:
                            place = root / folder.path / file[0]
                            raise DataError(place, "changed while it was read", "run this again")
                    digests = {file: sha for file, (_, sha) in new.items()}
                    if kept and digests:
                        kept.add(folder.path, digests.items())
                    rows.add(folder.path, files, [digests.get(f) or known[f] for f in files])
                    hashed += len(digests)
                total += len(folder.files)
            if part == "images" and total == before:
                cure = "give the folder that holds them in images/, their names ending in .jpg or .png"
                raise DataError(root / part, "holds no images", cure)
        rows.finish()
        temporary.replace(path)
    return Written(total, hashed)


def differences(path: Path, *, threads: int | None = None) -> Iterator[str]:
    """Files that are not as the manifest ``path`` says, each with what is wrong; every file is hashed anew."""
    root = path.parent
    listed = ((_order(row[0]), row) for row in read_rows(path))
    found = _paths(root)
    with _pool(threads) as pool:
        expected, there = next(listed, None), next(found, None)
        waiting: list[tuple[str, int, str]] = []
        while expected or there:
            if there and (not expected or there < expected[0]):
                yield f"{'/'.join((*there[0], there[1]))}: is not in the manifest"
                there = next(found, None)
            elif expected and (not there or expected[0] < there):
                yield f"{expected[1][0]}: is missing"
                expected = next(listed, None)
            else:
                assert expected
                waiting.append(expected[1])
                expected, there = next(listed, None), next(found, None)
            if len(waiting) >= _FILES_PER_TASK or not (expected or there):
                yield from filter(None, pool.map(lambda row: _difference(root, *row), waiting))
                waiting = []


def _difference(root: Path, path: str, size: int, sha256: str) -> str | None:
    try:
        found = bytes_and_sha256(root / path)
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    if found == (size, sha256):
        return None
    return f"{path}: has {'other bytes' if found[0] == size else f'{found[0]} bytes, not {size}'}"


def _paths(root: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    for part in parts_of(root):
        for folder in progress(list_folders(root, part), total=_folders(root, part), desc=f"{part}/"):
            for name, _, _ in folder.files:
                yield _order(f"{folder.path}/{name}")


def _order(path: str) -> tuple[tuple[str, ...], str]:
    """What the rows of a manifest are sorted by: a folder's files, then its folders."""
    *folder, name = path.split("/")
    return tuple(folder), name


def _folders(root: Path, part: str) -> int:
    """Folders of a part, not counting those inside them: where progress ends."""
    with os.scandir(root / part) as entries:
        return sum(entry.is_dir() and not entry.name.startswith(".") for entry in entries)


def _pool(threads: int | None) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads or min(16, os.cpu_count() or 1))


class _Rows:
    """Writes rows in groups of one size, so that folders of one file make no group each."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")
        self._paths: list[str] = []
        self._sizes: list[int] = []
        self._digests: list[str] = []

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, folder: str, files: list[State], digests: list[str]) -> None:
        self._paths.extend(f"{folder}/{name}" for name, _, _ in files)
        self._sizes.extend(size for _, size, _ in files)
        self._digests.extend(digests)
        while len(self._paths) >= _ROWS_PER_GROUP:
            self._write(_ROWS_PER_GROUP)

    def finish(self) -> None:
        self._write(len(self._paths))
        self._writer.close()

    def _write(self, rows: int) -> None:
        columns = {"path": self._paths[:rows], "bytes": self._sizes[:rows], "sha256": self._digests[:rows]}
        self._writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
        del self._paths[:rows], self._sizes[:rows], self._digests[:rows]
