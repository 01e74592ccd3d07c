"""The embeddings of all crops, one mapped array each: L_3D, a cloud of points, and L_app, the appearance."""

from pathlib import Path

import numpy as np

from geobody.errors import DataError

L3D_FILE = "l3d.npy"
LAPP_FILE = "lapp.npy"


def read_l3d(folder: Path, *, rows: int) -> np.ndarray:
    """The memory-mapped (N,P,3) float32 L_3D of the crops; raises DataError if it is not ``rows`` long."""
    return _read(folder / L3D_FILE, rows=rows, shape=(None, 3), said="P,3")


def read_lapp(folder: Path, *, rows: int) -> np.ndarray:
    """The memory-mapped (N,A) float32 L_app of the crops; raises DataError if it is not ``rows`` long."""
    return _read(folder / LAPP_FILE, rows=rows, shape=(None,), said="A")


def _read(path: Path, *, rows: int, shape: tuple[int | None, ...], said: str) -> np.ndarray:
    """An array (rows, *shape); None stands for any length."""
    cure = "run `dvc repro embeddings`"
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(path, "is missing", cure) from None
    except (OSError, ValueError) as error:
        raise DataError(path, f"is no readable array ({error})", cure) from None
    expected = (rows, *shape)
    fits = array.ndim == len(expected) and all(
        want in (None, found) for want, found in zip(expected, array.shape, strict=True)
    )
    if not fits or array.dtype != np.float32:
        raise DataError(
            path, f"is {array.dtype} {array.shape}, not float32 ({rows},{said}) as the crops", cure
        )
    return array
