"""The manifest of a data set: one row per file (path, bytes, SHA-256), read and checked.

DVC needs 28 s to commit 100,000 small files and looks at each of them every time. The stages depend
on this one file instead: when an image changes, so does its row, and with it everything made from it.
Paths are relative to the manifest's folder, the data set's root, and begin with one of `PARTS`.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from geobody.errors import DataError

SCHEMA: Final = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())])
NAME: Final = "manifest.parquet"
PARTS: Final = ("annotations", "images", "masks", "truth")
"""Folders of a data set, in the manifest's order."""
MAKE_MANIFEST: Final = "write it with `geobody manifest` (`dvc repro synth` for the synthetic set)"

_ROWS_PER_BATCH: Final = 65_536


def read_manifest(path: Path) -> Iterator[pa.StringArray]:
    """Batches of paths, in the manifest's order. Raises DataError if it is no manifest."""
    for batch in _batches(path, ["path"]):
        yield batch.column("path")


def read_rows(path: Path) -> Iterator[tuple[str, int, str]]:
    """(path, bytes, SHA-256) of every file, in the manifest's order. Raises DataError if it is no manifest."""
    for batch in _batches(path, SCHEMA.names):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise DataError(path, "there is no such manifest", MAKE_MANIFEST)
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            if not file.schema_arrow.equals(SCHEMA):
                found = ", ".join(file.schema_arrow.names)
                raise DataError(path, f"has columns {found}, not {', '.join(SCHEMA.names)}", MAKE_MANIFEST)
            yield from file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=columns)
    except pa.ArrowException as error:
        raise _unreadable(path, error) from error


def read_hashes(path: Path, *, suffix: str) -> dict[str, tuple[int, str]]:
    """(bytes, SHA-256) by path of the files whose paths end in ``suffix``. Raises DataError."""
    found: dict[str, tuple[int, str]] = {}
    for batch in _batches(path, SCHEMA.names):
        chosen = batch.filter(pa.compute.ends_with(batch.column("path"), suffix))
        paths, sizes, digests = (column.to_pylist() for column in chosen.columns)
        found.update(zip(paths, zip(sizes, digests, strict=True), strict=True))
    return found


def check_file(path: Path, expected: tuple[int, str] | None) -> None:
    """Raises DataError unless the file has the (bytes, SHA-256) of its row in the manifest."""
    if expected is None:
        raise DataError(path, "is not in the manifest", MAKE_MANIFEST)
    try:
        found = bytes_and_sha256(path)
    except OSError as error:
        raise DataError(
            path, f"cannot be read ({error.strerror})", f"restore it, or {MAKE_MANIFEST}"
        ) from None
    if found != expected:
        what = f"{found[0]} bytes, not {expected[0]}" if found[0] != expected[0] else "other bytes"
        raise DataError(path, f"does not match the manifest ({what})", f"restore it, or {MAKE_MANIFEST}")


def bytes_and_sha256(path: Path) -> tuple[int, str]:
    """Length and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(path, f"cannot be read as parquet ({str(error).splitlines()[0]})", MAKE_MANIFEST)
