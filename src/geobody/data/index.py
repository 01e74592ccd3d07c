"""The index: one row per image with its camera's sequence, pose, instant and split; no pixel is read.

Files come from the manifest, so that a million images need no walk through folders; each sequence's
``.mat`` is opened once. Rows are sorted by subject, action, subaction, camera and frame.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geobody.conventions import EVALUATION_SUBJECTS
from geobody.data.h36m import (
    IMAGE_SUFFIX,
    META_NAME,
    SequenceMeta,
    SequenceName,
    read_meta,
)
from geobody.data.listings import Listing, choose_sequences, read_listings
from geobody.data.manifest import check_file, read_hashes
from geobody.errors import DataError
from geobody.geometry.cameras import Camera
from geobody.progress import progress

IMAGES_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("sequence_id", pa.int32()),
        ("image", pa.string()),
        ("mask", pa.string()),
        ("subject", pa.int16()),
        ("action", pa.int16()),
        ("subaction", pa.int16()),
        ("camera", pa.int16()),
        ("frame", pa.int32()),
        ("instant", pa.int32()),
        ("split", pa.string()),
        ("joints_world_mm", pa.list_(pa.float32(), 51)),
    ]
)
SEQUENCES_SCHEMA = pa.schema(
    [
        ("sequence_id", pa.int32()),
        ("folder", pa.string()),
        ("subject", pa.int16()),
        ("action", pa.int16()),
        ("subaction", pa.int16()),
        ("camera", pa.int16()),
        ("R", pa.list_(pa.float64(), 9)),
        ("centre_mm", pa.list_(pa.float64(), 3)),
        ("f", pa.list_(pa.float64(), 2)),
        ("c", pa.list_(pa.float64(), 2)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("distortion", pa.list_(pa.float64(), 5)),
    ]
)

_ROWS_PER_GROUP = 50_000
_REMAKE = "make it with `dvc repro index`"


def build_index(
    *,
    manifest: Path,
    output: Path,
    stride: int = 1,
    cameras: Iterable[int] = (1, 2, 3, 4),
    train_subjects: Iterable[int] = (1, 5, 6, 7, 8),
    test_subjects: Iterable[int] = (9, 11),
    exclude: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Writes ``images.parquet`` and ``sequences.parquet`` into the folder ``output``; returns counts.

    Bodies for evaluation alone (``conventions.EVALUATION_SUBJECTS``) are taken in wherever they are.
    ``exclude`` lists (folder or pattern, reason). The data set is in the manifest's folder; when it has
    no masks, no row has one, else each must. Raises DataError for whatever in it is missing or broken.
    """
    root = manifest.parent
    cameras = set(cameras)
    splits = {s: "train" for s in train_subjects} | {s: "test" for s in test_subjects}
    listings = read_listings(manifest)
    choice = choose_sequences(
        listings, root, exclude=[pattern for pattern, _ in exclude], subjects=splits, cameras=cameras
    )
    if choice.misnamed:
        raise choice.misnamed[0]
    names, reasons = choice.names, dict(exclude)
    excluded = {p: {"reason": reasons[p], "sequences": n} for p, n in choice.excluded.items()}
    for subject in sorted(splits):
        if not any(n.subject == subject and len(listings[n.folder].at_stride(stride)) for n in names):
            cure = f"add them, or take {subject} out of params.yaml: dataset.{splits[subject]}_subjects"
            at = f" at stride {stride}" if stride > 1 else ""
            raise DataError(root, f"has no images of subject {subject}{at}", cure)
    mats = read_hashes(manifest, suffix=META_NAME)
    has_masks = any(listing.masks for listing in listings.values())

    output.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()
    per_subject: Counter[str] = Counter()
    sequences: list[dict[str, Any]] = []
    with _BufferedWriter(output / "images.parquet") as writer:
        takes = groupby(progress(names, desc="index"), key=lambda n: (n.subject, n.action, n.subaction))
        for _, group in takes:
            take = list(group)
            kept = [listings[name.folder].at_stride(stride) for name in take]
            instants, seen = np.unique(np.concatenate(kept), return_counts=True)
            for name, frames in zip(take, kept, strict=True):
                listing, split = listings.pop(name.folder), split_of(name.subject, splits)
                meta = _read_checked_meta(root, name, listing, mats)
                images, mask_paths = _paths(root, name, listing, frames, has_masks=has_masks)
                writer.write(
                    {
                        "key": [f"{name.folder}_{n:06d}" for n in frames.tolist()],
                        "sequence_id": np.full(len(frames), len(sequences), np.int32),
                        "image": images,
                        "mask": mask_paths,
                        **{
                            part: np.full(len(frames), getattr(name, part), np.int16)
                            for part in ("subject", "action", "subaction", "camera")
                        },
                        "frame": frames.astype(np.int32),
                        "instant": (counts["instants"] + np.searchsorted(instants, frames)).astype(np.int32),
                        "split": [split] * len(frames),
                        "joints_world_mm": meta.joints_world_mm[frames - 1].reshape(-1, 51),
                    }
                )
                sequences.append(_sequence_row(len(sequences), name, meta.camera))
                counts["images"] += len(frames)
                counts[f"images_{split}"] += len(frames)
                counts["images_with_distortion"] += len(frames) * (meta.camera.distortion is not None)
                per_subject[f"subject_{name.subject:02d}"] += len(frames)
            counts["instants"] += len(instants)
            counts["instants_seen_by_all_cameras"] += int((seen == len(cameras)).sum())
    pq.write_table(pa.Table.from_pylist(sequences, schema=SEQUENCES_SCHEMA), output / "sequences.parquet")
    counts["sequences"] = len(sequences)
    counts["stride"] = stride
    return {**counts, "images_per_subject": dict(per_subject), "excluded": excluded}


@dataclass(frozen=True)
class Index:
    """The index, read."""

    images: pa.Table
    """As `IMAGES_SCHEMA`."""
    folders: tuple[str, ...]
    """By sequence_id."""
    cameras: tuple[Camera, ...]
    """By sequence_id."""

    @classmethod
    def open(cls, path: Path) -> "Index":
        """The index in the folder ``path``. Raises DataError if it is missing or broken."""
        images = _read_parquet(path / "images.parquet", IMAGES_SCHEMA)
        rows = _read_parquet(path / "sequences.parquet", SEQUENCES_SCHEMA).to_pylist()
        cameras = tuple(
            Camera(
                R_world_to_cam=np.array(row["R"]).reshape(3, 3),
                centre_world_mm=np.array(row["centre_mm"]),
                focal_px=np.array(row["f"]),
                principal_px=np.array(row["c"]),
                width_px=row["width"],
                height_px=row["height"],
                distortion=None if row["distortion"] is None else np.array(row["distortion"]),
            )
            for row in rows
        )
        return cls(images, tuple(row["folder"] for row in rows), cameras)

    def __len__(self) -> int:
        return self.images.num_rows

    @property
    def has_masks(self) -> bool:
        """Whether the images have masks: all of them, or none."""
        return self.images.column("mask").null_count == 0

    def column(self, name: str) -> NDArray:
        """A column as an array; joints_world_mm as (N,17,3) float64."""
        column = self.images.column(name).combine_chunks()
        if name == "joints_world_mm":
            return column.flatten().to_numpy().astype(np.float64).reshape(-1, 17, 3)
        if pa.types.is_string(column.type):
            return np.asarray(column.to_pylist(), dtype=object)
        return column.to_numpy()


def split_of(subject: int, splits: Mapping[int, str]) -> str | None:
    """The split of a subject's images: "evaluation", or as ``splits`` say; None when it is not used."""
    return "evaluation" if subject in EVALUATION_SUBJECTS else splits.get(subject)


def _read_checked_meta(
    root: Path, name: SequenceName, listing: Listing, mats: Mapping[str, tuple[int, str]]
) -> SequenceMeta:
    assert listing.images is not None
    place = listing.meta or str(listing.images / META_NAME)
    path = root / place
    if path.exists():
        check_file(path, mats.get(place))  # before scipy sees it: its reader can crash on damaged bytes
    meta = read_meta(path)
    last = int(listing.at_stride(1)[-1])
    if last > len(meta.joints_world_mm):
        image = f"{name.folder}_{last:06d}{IMAGE_SUFFIX}"
        cure = "restore it, remove the images that have no pose, or list the folder in dataset.exclude"
        raise DataError(path, f"has {len(meta.joints_world_mm)} poses, fewer than the images ({image})", cure)
    return meta


def _paths(
    root: Path, name: SequenceName, listing: Listing, frames: NDArray[np.int32], *, has_masks: bool
) -> tuple[list[str], list[str] | list[None]]:
    """Paths of the images and of their masks, relative to the root."""
    images = [f"{listing.images}/{name.folder}_{n:06d}{IMAGE_SUFFIX}" for n in frames.tolist()]
    if not has_masks:
        return images, [None] * len(images)
    suffix = listing.mask_suffix()
    folder = listing.masks[suffix][0] if listing.masks else PurePosixPath("masks", name.folder)
    missing = listing.unmasked(frames)
    if len(missing):
        cure = "add it, or take masks/ away as a whole, and write the manifest again"
        first = root / folder / f"{name.folder}_{missing[0]:06d}{suffix}"
        raise DataError(first, f"is missing (as are {len(missing) - 1} more)", cure)
    return images, [f"{folder}/{name.folder}_{n:06d}{suffix}" for n in frames.tolist()]


def _sequence_row(sequence_id: int, name: SequenceName, camera: Camera) -> dict[str, Any]:
    return {
        "sequence_id": sequence_id,
        "folder": name.folder,
        "subject": name.subject,
        "action": name.action,
        "subaction": name.subaction,
        "camera": name.camera,
        "R": camera.R_world_to_cam.reshape(9).tolist(),
        "centre_mm": camera.centre_world_mm.tolist(),
        "f": camera.focal_px.tolist(),
        "c": camera.principal_px.tolist(),
        "width": camera.width_px,
        "height": camera.height_px,
        "distortion": None if camera.distortion is None else camera.distortion.tolist(),
    }


class _BufferedWriter:
    """Writes images.parquet in row groups of some 50,000 rows, whatever the sequences' lengths."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, IMAGES_SCHEMA)
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def __enter__(self) -> "_BufferedWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()

    def write(self, columns: Mapping[str, Any]) -> None:
        arrays = []
        for schema_field in IMAGES_SCHEMA:
            values = columns[schema_field.name]
            if schema_field.name == "joints_world_mm":
                flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, 51).cast(schema_field.type))
            else:
                arrays.append(pa.array(values, schema_field.type))
        self._batches.append(pa.record_batch(arrays, schema=IMAGES_SCHEMA))
        self._rows += self._batches[-1].num_rows
        if self._rows >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches).combine_chunks()
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
            self._batches, self._rows = [], 0


def _read_parquet(file: Path, schema: pa.Schema) -> pa.Table:
    if not file.is_file():
        raise DataError(file, "is missing", _REMAKE)
    try:
        table = pq.read_table(file)
    except pa.ArrowException as error:
        why = str(error).splitlines()[0]
        raise DataError(file, f"cannot be read as parquet ({why})", _REMAKE) from error
    if not table.schema.equals(schema):
        raise DataError(file, f"has columns {', '.join(table.schema.names)}, not the index's", _REMAKE)
    return table


def chunks(index: Index, *, rows_per_chunk: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers of the index in order, a sequence or a part of one at a time."""
    ids = index.column("sequence_id")
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    for start, end in zip(starts, np.r_[starts[1:], len(ids)], strict=True):
        for first in range(start, end, rows_per_chunk):
            yield np.arange(first, min(first + rows_per_chunk, end))
