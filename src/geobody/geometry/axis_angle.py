"""theta as rotation matrices and back: SMPL's poses are axis-angle vectors, one for each joint."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def to_matrices(theta: NDArray) -> NDArray[np.float64]:
    """Rotation matrices (N,24,3,3) of axis-angle values (N,72) in radians."""
    return (
        Rotation.from_rotvec(theta.reshape(-1, 3).astype(np.float64))
        .as_matrix()
        .reshape(len(theta), -1, 3, 3)
    )


def to_axis_angle(rotations: NDArray) -> NDArray[np.float32]:
    """Axis-angle values (N,72), radians, of rotation matrices (N,24,3,3)."""
    vectors = Rotation.from_matrix(rotations.reshape(-1, 3, 3).astype(np.float64)).as_rotvec()
    return vectors.reshape(len(rotations), -1).astype(np.float32)
