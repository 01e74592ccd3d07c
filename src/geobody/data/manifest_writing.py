"""Writes the manifest of a data set: lists its files, hashes them, and keeps no more than one folder in memory.

Listing and hashing are apart: a listing is a stream of folders with each file's size and time, and a
file whose size and time a journal knows is not read again.
"""

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geobody.data.manifest import PARTS, SCHEMA, bytes_and_sha256
from geobody.errors import DataError
from geobody.progress import progress

SUFFIXES = {"annotations": (".mat",), "images": (".jpg", ".png", ".mat"), "masks": (".jpg", ".png"),
            "truth": (".parquet",)}  # fmt: skip
"""What is listed of each part; other files and hidden ones are not the data set's."""

_ROWS_PER_GROUP = 65_536


@dataclass(frozen=True)
class Folder:
    """Files of one folder, sorted by name."""

    path: str
    """Relative to the root, with ``/``."""
    names: list[str]
    sizes: list[int]
    times_ns: list[int]


def list_folders(root: Path, part: str) -> Iterator[Folder]:
    """Folders of a part of the data set that hold files, in a fixed order, one at a time.

    Links are followed, so that the parts of a data set may lie anywhere.
    """
    waiting = [part]
    while waiting:
        path = waiting.pop()
        found, below = [], []
        with os.scandir(root / path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    below.append(f"{path}/{entry.name}")
                elif entry.name.lower().endswith(SUFFIXES[part]):
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        found.append((entry.name, status.st_size, status.st_mtime_ns))
        if found:
            names, sizes, times = map(list, zip(*sorted(found), strict=True))
            yield Folder(path, names, sizes, times)
        waiting.extend(sorted(below, reverse=True))


def write_manifest(path: Path, *, threads: int | None = None) -> int:
    """Writes the manifest ``path`` of every file of the data set in its folder; returns the number of rows.

    Rows are sorted by part and folder, whatever the file system's order; files are hashed by ``threads``
    threads (default: as many as cores, at most 16). Raises DataError when there is no image.
    """
    root = path.parent
    threads = threads or min(16, os.cpu_count() or 1)
    if not (root / "images").is_dir():
        raise DataError(root, "has no folder images/", "give the folder that holds images/ (links will do)")
    temporary = path.with_name(f".tmp-{path.name}")
    total = 0
    try:
        with pq.ParquetWriter(temporary, SCHEMA) as writer, ThreadPoolExecutor(threads) as pool:
            for part in PARTS:
                if not (root / part).is_dir():
                    continue
                before = total
                for folder in progress(list_folders(root, part), desc=f"{part}/, folders"):
                    files = [root / folder.path / name for name in folder.names]
                    hashes = list(pool.map(bytes_and_sha256, files))
                    paths = [f"{folder.path}/{name}" for name in folder.names]
                    sizes, digests = zip(*hashes, strict=True)
                    columns = [
                        pa.array(c, f.type) for c, f in zip((paths, sizes, digests), SCHEMA, strict=True)
                    ]
                    writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
                    total += len(paths)
                if part == "images" and total == before:
                    raise DataError(root / part, "holds no .jpg file", "give the right folder")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return total
