"""The embeddings' files: mapped, and checked against the crops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geobody.data.embeddings import L3D_FILE, LAPP_FILE, read_l3d, read_lapp
from geobody.errors import DataError

CASES = [
    (read_l3d, L3D_FILE, (4, 5, 3), r"not float32 \(3,P,3\)"),
    (read_lapp, LAPP_FILE, (4, 8), r"\(3,A\)"),
]


@pytest.mark.parametrize(("read", "name", "shape", "said"), CASES)
def test_embeddings_that_do_not_match_the_crops_are_refused(
    read: Callable[..., np.ndarray], name: str, shape: tuple[int, ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="is missing"):
        read(tmp_path, rows=3)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.save(tmp_path / name, values)
    found = read(tmp_path, rows=4)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, values)
    with pytest.raises(DataError, match=said):
        read(tmp_path, rows=3)
    for other in (values.astype(np.float64), values[..., None]):
        np.save(tmp_path / name, other)
        with pytest.raises(DataError, match="as the crops"):
            read(tmp_path, rows=4)
    (tmp_path / name).write_bytes(b"no array")
    with pytest.raises(DataError, match="no readable array"):
        read(tmp_path, rows=4)


def test_points_have_three_coordinates(tmp_path: Path) -> None:
    np.save(tmp_path / L3D_FILE, np.zeros((4, 5, 2), np.float32))
    with pytest.raises(DataError, match="as the crops"):
        read_l3d(tmp_path, rows=4)
