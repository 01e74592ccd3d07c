"""Forward and inverse kinematics of a plain 24-joint figure in SMPL's rest frame.

The figure has the mean open body's bones, rounded to millimetres and exactly symmetric, and no surface.
It serves to place hands and feet when motion is generated and to check what readers return; bodies bring
their own lengths.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geobody.conventions import SMPL_JOINTS, SMPL_PARENTS

Array = NDArray[np.float64]

FIGURE_OFFSETS_M: Final[tuple[tuple[float, float, float], ...]] = (
    (0.0, 0.0, 0.0), (0.112, -0.016, -0.008), (-0.112, -0.016, -0.008), (0.0, 0.081, -0.039),
    (0.027, -0.381, 0.0), (-0.027, -0.381, 0.0), (0.0, 0.153, 0.014),
    (0.030, -0.432, 0.0), (-0.030, -0.432, 0.0), (0.0, 0.127, -0.010),
    (0.009, -0.050, 0.141), (-0.009, -0.050, 0.141), (0.0, 0.183, 0.037),
    (0.023, 0.107, 0.052), (-0.023, 0.107, 0.052), (0.0, 0.097, 0.033),
    (0.151, -0.020, -0.004), (-0.151, -0.020, -0.004), (0.259, 0.0, 0.0), (-0.259, 0.0, 0.0),
    (0.232, 0.0, 0.0), (-0.232, 0.0, 0.0), (0.101, 0.0, 0.0), (-0.101, 0.0, 0.0),
)  # fmt: skip
"""Rest position of each joint relative to its parent, metres, body frame."""

ANKLE_HEIGHT_M: Final = 0.08
JOINT: Final = {name: i for i, name in enumerate(SMPL_JOINTS)}


def forward_kinematics(poses: Array, offsets: Array | None = None) -> tuple[Array, Array]:
    """Joint positions (T,24,3) relative to the pelvis and global rotations (T,24,3,3).

    ``poses`` (T,24,3) axis-angle; ``offsets`` (24,3) metres, default the average figure's.
    """
    offsets = np.asarray(FIGURE_OFFSETS_M) if offsets is None else offsets
    local = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(*poses.shape, 3)
    positions, rotations = np.zeros_like(poses), local.copy()
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            rotations[:, joint] = rotations[:, parent] @ local[:, joint]
            positions[:, joint] = positions[:, parent] + rotations[:, parent] @ offsets[joint]
    return positions, rotations


def normalise(vectors: Array) -> Array:
    """Unit vectors along the last axis."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-9)


def least_rotation(start: Array, end: Array) -> Array:
    """The smallest rotation (3,3) that turns one direction (3,) into another."""
    start, end = normalise(start), normalise(end)
    axis = np.cross(start, end)
    angle = np.arctan2(np.linalg.norm(axis), float(start @ end))
    return Rotation.from_rotvec(normalise(axis) * angle).as_matrix()


def two_bone(target: Array, pole: Array, upper_m: float, lower_m: float) -> tuple[Array, Array, Array]:
    """Directions (T,3) of the upper bone and of the pole across it, and the joint's flexion (T,) in radians.

    ``target`` (T,3) is the end of the chain relative to its start; the middle joint goes towards
    ``pole`` (T,3). A target out of reach is pulled into 0.3 .. 0.995 of the chain's length.
    """
    reach = upper_m + lower_m
    distance = np.clip(np.linalg.norm(target, axis=-1, keepdims=True), 0.3 * reach, 0.995 * reach)
    along = normalise(target)
    side = normalise(pole - along * np.sum(pole * along, axis=-1, keepdims=True))
    cos_start = (upper_m**2 + distance**2 - lower_m**2) / (2 * upper_m * distance)
    sin_start = np.sqrt(np.maximum(1 - cos_start**2, 0))
    upper = cos_start * along + sin_start * side
    across = cos_start * side - sin_start * along
    cos_flex = (distance**2 - upper_m**2 - lower_m**2) / (2 * upper_m * lower_m)
    return upper, across, np.arccos(np.clip(cos_flex[..., 0], -1, 1))


def arm_rotations(wrist: Array, pole: Array, side: int) -> tuple[Array, Array, Array]:
    """Collar, shoulder and elbow rotations, axis-angle (T,3) each, that bring a wrist to its target.

    ``wrist`` (T,3): position in the chest's (spine3) frame, metres; ``pole``: where the elbow
    points; ``side``: +1 left, -1 right. The collar takes a share of a raised arm.
    """
    prefix = "left_" if side > 0 else "right_"
    offsets = np.asarray(FIGURE_OFFSETS_M)
    collar_at, shoulder_offset = offsets[JOINT[prefix + "collar"]], offsets[JOINT[prefix + "shoulder"]]
    raised = normalise(wrist - collar_at - shoulder_offset)
    lift, forward = np.clip(raised[:, 1] + 0.3, 0, 1.3), raised[:, 2]
    collar = np.stack([0 * lift, -0.12 * side * forward, 0.22 * side * lift], axis=-1)
    collar_matrix = Rotation.from_rotvec(collar).as_matrix()
    shoulder_at = collar_at + collar_matrix @ shoulder_offset
    upper_m = abs(offsets[JOINT[prefix + "elbow"]][0])
    lower_m = abs(offsets[JOINT[prefix + "wrist"]][0])
    upper, across, flexion = two_bone(wrist - shoulder_at, pole, upper_m, lower_m)
    # At rest the arm lies along +-x and the elbow's hinge brings the forearm towards +z.
    x, z = side * upper, -across
    shoulder_matrix = np.swapaxes(collar_matrix, 1, 2) @ np.stack([x, np.cross(z, x), z], axis=-1)
    elbow = np.stack([0 * flexion, -side * flexion, 0 * flexion], axis=-1)
    return collar, Rotation.from_matrix(shoulder_matrix).as_rotvec(), elbow


def leg_rotations(ankle: Array, pole: Array, foot_to_pelvis: Array, side: int) -> tuple[Array, Array, Array]:
    """Hip, knee and ankle rotations, axis-angle (T,3) each, that put an ankle and a foot in place.

    ``ankle`` (T,3): position in the pelvis' frame, metres; ``pole``: where the knee points;
    ``foot_to_pelvis`` (T,3,3): orientation of the foot; ``side``: +1 left, -1 right.
    """
    prefix = "left_" if side > 0 else "right_"
    offsets = np.asarray(FIGURE_OFFSETS_M)
    thigh, shin = offsets[JOINT[prefix + "knee"]], offsets[JOINT[prefix + "ankle"]]
    upper_m, lower_m = float(np.linalg.norm(thigh)), float(np.linalg.norm(shin))
    upper, across, flexion = two_bone(ankle - offsets[JOINT[prefix + "hip"]], pole, upper_m, lower_m)
    # A leg straight down whose knee is a hinge about x; then each bone from its own rest direction.
    straight = np.stack([np.cross(-upper, across), -upper, across], axis=-1)
    bend = Rotation.from_rotvec(np.stack([flexion, 0 * flexion, 0 * flexion], axis=-1)).as_matrix()
    down = np.array([0.0, -1.0, 0.0])
    hip_matrix, shank = straight @ least_rotation(thigh, down), straight @ bend @ least_rotation(shin, down)
    knee = np.swapaxes(hip_matrix, 1, 2) @ shank
    foot = np.swapaxes(shank, 1, 2) @ foot_to_pelvis
    turns = [Rotation.from_matrix(matrix).as_rotvec() for matrix in (hip_matrix, knee, foot)]
    return turns[0], turns[1], turns[2]
