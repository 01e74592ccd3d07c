"""The manifest of a data set: one row per file (root, path, bytes, SHA-256).

DVC needs 28 s to commit 100,000 small files and looks at each of them every time. The stages depend
on this one file instead: when an image changes, so does its row, and with it everything made from it.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from geobody.errors import DataError
from geobody.progress import progress

SCHEMA = pa.schema(
    [("root", pa.string()), ("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())]
)
SUFFIXES = (".jpg", ".png", ".mat")
MAKE_MANIFEST = (
    "make the manifest anew with `python -m tools.write_manifest IMAGES MASKS MANIFEST` "
    "(`dvc repro synth` for the synthetic set)"
)

_ROWS_PER_BATCH = 8192


def list_files(root: Path, *, skip: frozenset[Path] = frozenset()) -> Iterator[str]:
    """Paths below ``root`` of all images, masks and ``.mat`` files, in a fixed order, with ``/``.

    Folders are visited one at a time, so that memory holds one folder's names and not the tree's.
    ``skip`` names folders (resolved) that are left out. Hidden names are not listed.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        names, below = [], []
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir():
                    if (root / path).resolve() not in skip:
                        below.append(path)
                elif entry.name.lower().endswith(SUFFIXES):
                    names.append(path)
        yield from sorted(names)
        folders.extend(sorted(below, reverse=True))


def write_manifest(path: Path, roots: Mapping[str, Path], *, threads: int | None = None) -> int:
    """Writes the manifest of every file under ``roots`` to ``path``; returns the number of rows.

    ``roots`` maps a name (``images``, ``masks``) to its folder; a root that lies inside another one
    is listed under its own name alone. Rows are sorted by root and folder, whatever the file system's
    order; files are hashed by ``threads`` threads (default: as many as cores, at most 16).
    Raises DataError for a root that is no folder or holds no file.
    """
    for root in roots.values():
        if not root.is_dir():
            raise DataError(root, "is no folder", "give the folder that holds the data set")
    resolved = {name: root.resolve() for name, root in roots.items()}
    threads = threads or min(16, os.cpu_count() or 1)
    total = 0
    temporary = path.with_name(f".tmp-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with pq.ParquetWriter(temporary, SCHEMA) as writer, ThreadPoolExecutor(threads) as pool:
            for name in sorted(roots):
                skip = frozenset(r for other, r in resolved.items() if other != name)
                files = list_files(roots[name], skip=skip)
                first = next(files, None)
                if first is None:
                    raise DataError(
                        roots[name], f"holds no {', '.join(SUFFIXES)} file", "give the right folder"
                    )
                batches = _batched(chain([first], files), _ROWS_PER_BATCH)
                for batch in progress(batches, desc=f"hashing {name}, batches of {_ROWS_PER_BATCH}"):
                    hashes = list(pool.map(_bytes_and_sha256, [roots[name] / p for p in batch], chunksize=64))
                    sizes, digests = zip(*hashes, strict=True)
                    columns = [[name] * len(batch), batch, list(sizes), list(digests)]
                    writer.write_batch(pa.record_batch([pa.array(c) for c in columns], schema=SCHEMA))
                    total += len(batch)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return total


def read_manifest(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Batches of (root, paths), in the manifest's order. Raises DataError if it is none."""
    if not path.is_file():
        raise DataError(path, "there is no such manifest", MAKE_MANIFEST)
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA):
                found = ", ".join(file.schema_arrow.names)
                raise DataError(path, f"has columns {found}, not {', '.join(SCHEMA.names)}", MAKE_MANIFEST)
            for batch in file.iter_batches(columns=["root", "path"]):
                roots = batch.column("root").dictionary_encode()
                for code, root in enumerate(roots.dictionary.to_pylist()):
                    chosen = batch.column("path").filter(pa.compute.equal(roots.indices, code))
                    yield root, chosen.to_pylist()
    except pa.ArrowException as error:
        why = str(error).splitlines()[0]
        raise DataError(path, f"cannot be read as parquet ({why})", MAKE_MANIFEST) from error


def read_hashes(path: Path, root: str, *, suffix: str) -> dict[str, tuple[int, str]]:
    """(bytes, SHA-256) by path of the files of a root whose names end in ``suffix``."""
    columns = ["path", "bytes", "sha256"]
    chosen = (pa.compute.field("root") == root) & pa.compute.ends_with(pa.compute.field("path"), suffix)
    try:
        table = pq.read_table(path, columns=columns, filters=chosen)
    except (OSError, pa.ArrowException) as error:
        why = str(error).splitlines()[0]
        raise DataError(path, f"cannot be read as parquet ({why})", MAKE_MANIFEST) from error
    paths, sizes, digests = (table.column(name).to_pylist() for name in columns)
    return dict(zip(paths, zip(sizes, digests, strict=True), strict=True))


def check_file(path: Path, expected: tuple[int, str] | None) -> None:
    """Raises DataError unless the file has the (bytes, SHA-256) of its row in the manifest."""
    if expected is None:
        raise DataError(path, "is not in the manifest", MAKE_MANIFEST)
    try:
        found = _bytes_and_sha256(path)
    except OSError as error:
        raise DataError(
            path, f"cannot be read ({error.strerror})", f"restore it, or {MAKE_MANIFEST}"
        ) from None
    if found != expected:
        what = f"{found[0]} bytes, not {expected[0]}" if found[0] != expected[0] else "other bytes"
        raise DataError(path, f"does not match the manifest ({what})", f"restore it, or {MAKE_MANIFEST}")


def _batched(paths: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(paths, size)):
        yield batch


def _bytes_and_sha256(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest
