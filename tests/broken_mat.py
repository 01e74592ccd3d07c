"""A .mat file whose damage SciPy's reader does not survive."""

import io
import struct
from pathlib import Path

import numpy as np
from scipy.io import savemat

_DOUBLE, _NO_TYPE = 9, 0


def write_crashing_mat(path: Path) -> Path:
    """Writes numbers of a type for which the reader's table holds a null pointer, which it follows."""
    memory, values = io.BytesIO(), np.zeros((4, 17, 3))
    savemat(memory, {"pose3d_world": values, "pose": values})
    whole = memory.getvalue()
    tag = struct.pack("<ii", _DOUBLE, values.nbytes)
    assert tag in whole
    path.unlink(missing_ok=True)
    path.write_bytes(whole.replace(tag, struct.pack("<ii", _NO_TYPE, values.nbytes)))
    return path
