"""Crops as a handful of memory-mapped arrays and one table, row by row the same images.

``images.npy`` and ``backgrounds.npy`` (N,S,S,3) uint8 RGB, ``masks.npy`` and ``masks_diff.npy``
(N,S,S) uint8 in [0, 255], and ``crops.parquet``. Training maps them and gathers rows.

The virtual camera of a row: x_px = focal_px * X / Z + (S-1)/2, with X in the crop frame, in which the
camera is at the origin and the point that the crop is centred on at (0, 0, depth_mm).
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geobody.errors import DataError

Split = Literal["train", "test", "evaluation"]
"""evaluation: the bodies of conventions.EVALUATION_SUBJECTS; neither trained on nor in any score of test."""

ARRAYS = {"images": 3, "backgrounds": 3, "masks": 0, "masks_diff": 0}
"""Shards and their channels (0: none)."""

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("subject", pa.int16()),
        ("action", pa.int16()),
        ("subaction", pa.int16()),
        ("camera", pa.int16()),
        ("frame", pa.int32()),
        ("instant", pa.int32()),
        ("split", pa.string()),
        ("R_world_to_crop", pa.list_(pa.float64(), 9)),
        ("centre_world_mm", pa.list_(pa.float64(), 3)),
        ("root_world_mm", pa.list_(pa.float64(), 3)),
        ("depth_mm", pa.float64()),
        ("focal_px", pa.float64()),
        ("joints_mm", pa.list_(pa.float64(), 51)),
    ]
)

_SHAPES = {"R_world_to_crop": (3, 3), "centre_world_mm": (3,), "root_world_mm": (3,), "joints_mm": (17, 3)}
_REMAKE = "make it with `dvc repro crops`"


@dataclass(frozen=True)
class CropShards:
    """All crops of a data set, mapped into memory and read-only."""

    images: NDArray[np.uint8]
    backgrounds: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    masks_diff: NDArray[np.uint8]
    table: Mapping[str, NDArray]
    """Columns of crops.parquet as arrays: R_world_to_crop (N,3,3), joints_mm (N,17,3), ...; is_train (N,)."""

    @classmethod
    def open(cls, path: Path | str) -> "CropShards":
        """Shards in the folder ``path``. Raises DataError if a file is missing, broken or of other length."""
        path = Path(path)
        table = _read_table(path / "crops.parquet")
        n = len(table["key"])
        arrays: dict[str, NDArray[np.uint8]] = {}
        for name, channels in ARRAYS.items():
            file = path / f"{name}.npy"
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            except FileNotFoundError:
                raise DataError(file, "is missing", _REMAKE) from None
            except (OSError, ValueError) as error:
                raise DataError(file, f"is no readable array ({error})", _REMAKE) from error
            size = arrays["images"].shape[1] if arrays else array.shape[1] if array.ndim > 1 else 0
            expected = (n, size, size, channels) if channels else (n, size, size)
            if array.shape != expected or array.dtype != np.uint8:
                raise DataError(file, f"is {array.dtype} {array.shape}, not uint8 {expected}", _REMAKE)
            arrays[name] = array
        return cls(**arrays, table=table)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def crop_size_px(self) -> int:
        """Side of a crop, in pixels."""
        return int(self.images.shape[1])

    @property
    def train_subjects(self) -> list[int]:
        """Subjects of the training split, ascending."""
        return [int(subject) for subject in np.unique(self.table["subject"][self.rows(split="train")])]

    def rows(
        self,
        *,
        subjects: Iterable[int] | None = None,
        split: Split | None = None,
        cameras: Iterable[int] | None = None,
    ) -> NDArray[np.int64]:
        """Sorted row numbers of the crops that meet every condition that is given."""
        chosen = np.ones(len(self), bool)
        if subjects is not None:
            chosen &= np.isin(self.table["subject"], list(subjects))
        if cameras is not None:
            chosen &= np.isin(self.table["camera"], list(cameras))
        if split is not None:
            chosen &= self.table["split"] == split
        return np.flatnonzero(chosen).astype(np.int64)

    def views(
        self,
        *,
        subjects: Iterable[int] | None = None,
        split: Split | None = None,
    ) -> NDArray[np.int64]:
        """Row numbers (I,C) of the instants that every camera of the shards saw, cameras ascending.

        Instants ascend too; those that a camera missed are left out.
        """
        cameras = np.unique(self.table["camera"])
        rows = self.rows(subjects=subjects, split=split)
        instant, camera = self.table["instant"][rows], self.table["camera"][rows]
        order = np.lexsort((camera, instant))
        rows, instant = rows[order], instant[order]
        _, first, count = np.unique(instant, return_index=True, return_counts=True)
        first = first[count == len(cameras)]
        return rows[first[:, None] + np.arange(len(cameras))]

    def root_crop_mm(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where the persons' roots are in the crop frames of ``rows`` (...): (...,3), mm, camera at the origin.

        (0, 0, depth_mm) where crops are centred on the root; beside the axis where they are on the mask.
        """
        from_camera = self.table["root_world_mm"][rows] - self.table["centre_world_mm"][rows]
        return np.einsum("...ij,...j->...i", self.table["R_world_to_crop"][rows], from_camera)


def create_arrays(path: Path, *, n: int, crop_size_px: int) -> dict[str, NDArray[np.uint8]]:
    """Writable memory maps of the four shards in the folder ``path``, which is made; filled with zeros."""
    path.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[np.uint8]] = {}
    for name, channels in ARRAYS.items():
        shape = (n, crop_size_px, crop_size_px, *([channels] if channels else []))
        file = path / f"{name}.npy"
        arrays[name] = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        _allocate(file)
    return arrays


def _allocate(file: Path) -> None:
    """Takes all of the file's space now: writing to a map of a file that no disk has room for is a crash."""
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


def write_table(path: Path, columns: Mapping[str, NDArray]) -> None:
    """Writes ``crops.parquet`` into the folder ``path``: arrays named and shaped as in `CropShards.table`."""
    arrays = []
    for field in SCHEMA:
        values = np.asarray(columns[field.name])
        if field.name in _SHAPES:
            flat = pa.array(np.ascontiguousarray(values, np.float64).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size).cast(field.type))
        else:
            arrays.append(pa.array(values.tolist(), field.type))
    pq.write_table(pa.table(arrays, schema=SCHEMA), path / "crops.parquet")


def _read_table(file: Path) -> dict[str, NDArray]:
    if not file.is_file():
        raise DataError(file, "is missing", _REMAKE)
    try:
        table = pq.read_table(file)
    except pa.ArrowException as error:
        raise DataError(file, f"cannot be read as parquet ({str(error).splitlines()[0]})", _REMAKE) from error
    if not table.schema.equals(SCHEMA):
        found = ", ".join(table.schema.names)
        raise DataError(file, f"has columns {found}, not those of a crop table", _REMAKE)
    columns: dict[str, NDArray] = {}
    for name in SCHEMA.names:
        column = table.column(name).combine_chunks()
        if name in _SHAPES:
            columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, *_SHAPES[name])
        elif name in ("key", "split"):
            columns[name] = np.asarray(column.to_pylist(), dtype=str)
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    columns["is_train"] = columns["split"] == "train"
    return columns
