"""Poses to fit and judge a body with: random ones within the joints' ranges, and a few by name.

Angles are degrees about x (to the body's left), y (up) and z (forward), applied in this order, of the
left side: the right side mirrors them (y and z change sign). In the T-pose a thigh swings forward by
negative x, a shin back by positive x, the left arm down by negative z and forward by negative y.
"""

from typing import Final

import numpy as np

from geobody.conventions import SMPL_JOINTS

Triple = tuple[float, float, float]

RANGES_DEG: Final[dict[str, tuple[Triple, Triple]]] = {
    "hip": ((-115, -35, -15), (25, 35, 45)), "knee": ((0, -5, -3), (135, 5, 3)),
    "ankle": ((-30, -15, -15), (40, 15, 15)), "foot": ((-30, 0, 0), (20, 0, 0)),
    "spine1": ((-10, -12, -10), (25, 12, 10)), "spine2": ((-10, -15, -10), (20, 15, 10)),
    "spine3": ((-8, -12, -8), (12, 12, 8)), "neck": ((-20, -30, -20), (25, 30, 20)),
    "head": ((-20, -30, -15), (20, 30, 15)), "collar": ((-5, -20, -10), (5, 15, 30)),
    "shoulder": ((-60, -100, -85), (60, 35, 75)), "elbow": ((-40, -140, -5), (40, 0, 5)),
    "wrist": ((-85, -20, -60), (85, 20, 60)), "hand": ((-5, -5, -60), (5, 5, 20)),
}  # fmt: skip
"""Lowest and highest angles of a joint; joints that are not named do not bend."""

NAMED_POSES_DEG: Final[dict[str, dict[str, Triple]]] = {
    "standing": {"shoulder": (0, 0, -72), "elbow": (0, -15, 0)},
    "sitting": {"hip": (-88, 0, 4), "knee": (88, 0, 0), "shoulder": (0, -20, -65), "elbow": (0, -50, 0)},
    "kneeling": {"hip": (-20, 0, 5), "knee": (110, 0, 0), "ankle": (25, 0, 0), "spine1": (8, 0, 0),
                 "shoulder": (0, 0, -70)},
    "arms_up": {"shoulder": (0, 0, 68), "collar": (0, 0, 22)},
    "walking": {"left_hip": (-28, 0, 0), "left_knee": (12, 0, 0), "right_hip": (18, 0, 0),
                "right_knee": (22, 0, 0), "right_ankle": (15, 0, 0), "left_shoulder": (28, 10, -74),
                "right_shoulder": (-28, -10, -74), "elbow": (0, -25, 0), "spine2": (4, 6, 0)},
    "phoning": {"left_shoulder": (0, 0, -74), "left_elbow": (0, -12, 0), "right_shoulder": (-40, -35, -60),
                "right_elbow": (0, -135, 0), "head": (8, 0, 8), "right_hip": (0, -12, 6)},
    "crouching": {"pelvis": (22, 0, 0), "hip": (-112, 0, 14), "knee": (128, 0, 0), "ankle": (-22, 0, 0),
                  "spine1": (22, 0, 0), "spine2": (14, 0, 0), "shoulder": (0, -70, -25), "elbow": (0, -40, 0)},
    "bowing": {"pelvis": (42, 0, 0), "hip": (-45, 0, 0), "spine1": (22, 0, 0), "spine2": (16, 0, 0),
               "spine3": (8, 0, 0), "shoulder": (0, -20, -70), "neck": (-10, 0, 0)},
    "pointing": {"left_shoulder": (0, -85, 6), "right_shoulder": (0, 0, -74), "spine2": (0, -8, 0),
                 "right_hip": (6, 0, 6), "head": (0, 12, 0)},
    "waving": {"right_shoulder": (-70, 0, 18), "right_elbow": (0, -75, 0), "right_collar": (0, 0, 18),
               "left_shoulder": (0, 0, -74), "head": (0, -10, 6)},
    "lunging": {"left_hip": (-80, 0, 4), "left_knee": (78, 0, 0), "right_hip": (22, 0, 4),
                "right_knee": (30, 0, 0), "right_ankle": (-15, 0, 0), "shoulder": (0, -10, -30)},
    "twisting": {"spine1": (0, 12, 0), "spine2": (0, 15, 0), "spine3": (0, 12, 0), "neck": (0, 25, 0),
                 "shoulder": (0, -30, -20), "elbow": (0, -60, 0)},
}  # fmt: skip


def rotation_of_degrees(angles: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) about x, then y, then z, from angles (..., 3) in degrees."""
    radians = np.radians(angles)
    out = np.broadcast_to(np.eye(3), (*radians.shape[:-1], 3, 3))
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        turn = np.broadcast_to(np.eye(3), out.shape).copy()
        c, s = np.cos(radians[..., axis]), np.sin(radians[..., axis])
        turn[..., i, i], turn[..., j, j], turn[..., i, j], turn[..., j, i] = c, c, -s, s
        out = turn @ out
    return out


def named_pose(name: str) -> np.ndarray:
    """Rotations (24, 3, 3) of one of ``NAMED_POSES_DEG``."""
    angles = np.zeros((len(SMPL_JOINTS), 3))
    table = NAMED_POSES_DEG[name]
    for j, joint in enumerate(SMPL_JOINTS):
        both = joint.removeprefix("left_").removeprefix("right_")
        value = np.array(table.get(joint, table.get(both, (0.0, 0.0, 0.0))))
        angles[j] = value * (1, -1, -1) if joint.startswith("right_") else value
    return rotation_of_degrees(angles)


def random_poses(n: int, *, rng: np.random.Generator) -> np.ndarray:
    """Rotations (n, 24, 3, 3), every joint drawn for itself and evenly from its range; the root is not turned."""
    angles = np.zeros((n, len(SMPL_JOINTS), 3))
    for j, joint in enumerate(SMPL_JOINTS):
        both = joint.removeprefix("left_").removeprefix("right_")
        if both in RANGES_DEG:
            low, high = (np.array(limit) for limit in RANGES_DEG[both])
            drawn = rng.uniform(low, high, size=(n, 3))
            angles[:, j] = drawn * (1, -1, -1) if joint.startswith("right_") else drawn
    return rotation_of_degrees(angles)
