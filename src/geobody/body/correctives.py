"""Pose correctives: what linear skinning lacks of dual-quaternion skinning, linear in the rotations."""

from typing import Final

import numpy as np

from geobody.body.rig import solve_3x3
from geobody.body.skinning import (
    blended_rotations,
    dual_quaternion_skinning,
    forward_kinematics,
    linear_skinning,
    weights_beyond,
)
from geobody.conventions import SMPL_JOINTS, SMPL_MIRROR

RIDGE: Final = 0.02
"""Ridge per pose, in units of the squared features: keeps rarely used directions of rotation small."""

SHOULDERS: Final = ("left_collar", "right_collar", "left_shoulder", "right_shoulder")
SHOULDER_SHARE: Final = 0.25
"""Of what dual quaternions would add, the share that is wanted where shoulders bend: there they bulge."""

TOUCHED: Final = 1e-4
"""Smallest share of a vertex' weight that counts as being moved by a joint."""


def pose_features(rotations: np.ndarray) -> np.ndarray:
    """Features (N, 207) of poses (N, 24, 3, 3): R - I of all joints but the root, row by row, as SMPL's."""
    return (rotations[:, 1:] - np.eye(3)).reshape(len(rotations), -1)


def joints_that_bend(weights: np.ndarray) -> np.ndarray:
    """Which joints (V, 24) bend the skin at a vertex: those with some of its weight on either side of them."""
    share = weights_beyond(weights)
    return (share > TOUCHED) & (share < 1 - TOUCHED)


def wanted_share(weights: np.ndarray) -> np.ndarray:
    """Share (V,) of the difference to dual-quaternion skinning that a vertex is to be corrected by."""
    beyond = weights_beyond(weights)
    bend = beyond * (1 - beyond)
    shoulders = bend[:, [SMPL_JOINTS.index(name) for name in SHOULDERS]].sum(1)
    return 1 - (1 - SHOULDER_SHARE) * shoulders / np.maximum(bend.sum(1), 1e-12)


def fit_posedirs(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, *, poses: np.ndarray, mirror: np.ndarray
) -> np.ndarray:
    """Correctives (V, 3, 207): ridge regression, from R - I, of the offsets that dual quaternions would add,
    or of a share of them (``wanted_share``).

    A vertex listens to the joints that bend the skin there, and to no other. ``poses`` (N, 24, 3, 3);
    ``vertices`` (V, 3), ``joints`` (24, 3) and ``weights`` (V, 24) at rest. The poses' mirror images
    are not needed: the result is made symmetric under ``mirror`` (V,).
    """
    share = wanted_share(weights)[:, None]
    offsets = np.empty((len(poses), len(vertices), 3), dtype=np.float32)
    for n, rotations in enumerate(poses):
        world, shift = forward_kinematics(rotations, joints)
        wanted = dual_quaternion_skinning(vertices, weights, world, shift)
        plain = linear_skinning(vertices, weights, world, shift)
        offsets[n] = solve_3x3(blended_rotations(weights, world), share * (wanted - plain))
    features = pose_features(poses)
    bending = np.repeat(joints_that_bend(weights)[:, 1:], 9, axis=1)
    patterns, group = np.unique(bending, axis=0, return_inverse=True)
    group = group.ravel()
    gram = features.T @ features
    posedirs = np.zeros((len(vertices), 3, features.shape[1]))
    for g, use in enumerate(patterns):
        ids = np.flatnonzero(group == g)
        if not use.any():
            continue
        right = features[:, use].T @ offsets[:, ids].reshape(len(poses), -1).astype(np.float64)
        system = gram[np.ix_(use, use)] + RIDGE * len(poses) * np.eye(int(use.sum()))
        solved = np.linalg.solve(system, right).reshape(-1, len(ids), 3)
        posedirs[np.ix_(ids, np.arange(3), np.flatnonzero(use))] = solved.transpose(1, 2, 0)
    return (posedirs + mirrored_posedirs(posedirs, mirror)) / 2


def mirrored_posedirs(posedirs: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Correctives (V, 3, 207) of the mirror image: left and right joints swapped, x reversed."""
    flip = np.array([-1.0, 1.0, 1.0])
    blocks = posedirs.reshape(len(posedirs), 3, len(SMPL_JOINTS) - 1, 3, 3)
    swapped = blocks[mirror][:, :, np.array(SMPL_MIRROR[1:]) - 1]
    swapped = swapped * flip[None, :, None, None, None] * flip[:, None] * flip
    return swapped.reshape(posedirs.shape)
