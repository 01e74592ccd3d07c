"""What each library that the stages write with says of a full disk is recognised as that."""

import errno
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from geobody.data.crops import create_arrays
from geobody.errors import DataError
from geobody.full_disk import full_disk
from geobody.report.contact_sheet import write_sheet
from geobody.training.checkpoint import save_weights
from geobody.training.curves import CurveWriter

LIMIT = 64 * 1024
NOISE = np.random.default_rng(0).integers(0, 256, 4 * LIMIT, dtype=np.uint8)


def write_row_groups(folder: Path) -> None:
    with pq.ParquetWriter(folder / "a.parquet", pa.schema([("noise", pa.uint8())])) as writer:
        writer.write_table(pa.table({"noise": NOISE}))


WRITERS: dict[str, Callable[[Path], object]] = {
    "numpy.save": lambda folder: np.save(folder / "a.npy", NOISE),
    "numpy.savez": lambda folder: np.savez(folder / "a.npz", noise=NOISE),
    "memory maps": lambda folder: create_arrays(folder / "crops", n=4, crop_size_px=128),
    "parquet": lambda folder: pq.write_table(pa.table({"noise": NOISE}), folder / "a.parquet"),
    "parquet in parts": write_row_groups,
    "safetensors": lambda folder: save_weights(folder / "a.safetensors", {"a": torch.from_numpy(NOISE)}, {}),
    "png": lambda folder: write_sheet(folder / "a.png", np.tile(NOISE.reshape(256, -1, 1), 3)),
    "csv": lambda folder: CurveWriter(folder / "a.csv", "0" * 2 * LIMIT),
}


@pytest.fixture
def small_files() -> object:
    """No file may grow beyond ``LIMIT`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_is_understood(small_files: object, tmp_path: Path, writer: str) -> None:
    with pytest.raises(Exception) as raised:
        WRITERS[writer](tmp_path)
    place = full_disk(raised.value, [tmp_path])
    assert place is not None
    assert Path(place) == tmp_path or tmp_path in Path(place).parents
    assert list(tmp_path.glob(".tmp-*")) == []


def test_a_cause_behind_another_error_is_found() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "full", "data/x")
        except OSError as error:
            raise RuntimeError("could not write") from error
    except RuntimeError as error:
        assert full_disk(error, []) == "data/x"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "may not", "data/x"),
        ValueError("7 requested"),
        DataError("a.jpg", "is cut short", "copy it again"),
    ],
)
def test_other_errors_are_none(error: Exception, tmp_path: Path) -> None:
    assert full_disk(error, [tmp_path]) is None


def test_without_a_name_the_place_is_the_folder_on_the_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy, full = tmp_path / "roomy", tmp_path / "full"
    roomy.mkdir()
    full.mkdir()

    class Disk:
        f_frsize = 4096

        def __init__(self, folder: Path) -> None:
            self.f_bavail = 3 if folder == full else 1 << 20

    monkeypatch.setattr("geobody.full_disk.os.statvfs", Disk)
    error = OSError("4000 requested and 12 written")
    assert full_disk(error, [tmp_path / "missing", roomy, full]) == str(full)
