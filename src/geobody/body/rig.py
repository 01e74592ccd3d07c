"""From the source's 104 bones in an A-pose to SMPL's 24 joints in a T-pose."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from geobody.body.skinning import blended_rotations, forward_kinematics, local_rotations
from geobody.conventions import SMPL_JOINTS, SMPL_MIRROR, SMPL_PARENTS

LEG_SPREAD_RAD: Final = np.radians(4.0)
"""Angle of the rest pose's straight legs to the vertical."""

BONES_OF_JOINT: Final[dict[str, tuple[str, ...]]] = {
    "pelvis": ("root",), "left_hip": ("upperleg01.L",), "spine1": ("spine04",),
    "left_knee": ("lowerleg01.L",), "spine2": ("spine02",), "left_ankle": ("foot.L",),
    "spine3": ("spine01",), "left_foot": tuple(f"toe{i}-1.L" for i in range(1, 6)), "neck": ("neck01",),
    "left_collar": ("clavicle.L",), "head": ("head",), "left_shoulder": ("upperarm01.L",),
    "left_elbow": ("lowerarm01.L",), "left_wrist": ("wrist.L",),
    "left_hand": tuple(f"finger{i}-1.L" for i in range(2, 6)),
}  # fmt: skip
"""Source bones that become a joint: it lies at the mean of their heads and takes their descendants' weights."""


def bones_of_joint(joint: str) -> tuple[str, ...]:
    """Names of the source bones behind one of SMPL's joints, right ones mirrored from left."""
    if joint in BONES_OF_JOINT:
        return BONES_OF_JOINT[joint]
    return tuple(f"{bone[:-1]}R" for bone in BONES_OF_JOINT[joint.replace("right_", "left_")])


def merge_weights(weights: np.ndarray, *, names: Sequence[str], parents: Sequence[int]) -> np.ndarray:
    """Weights (V, 24): each source bone's weight goes to the nearest ancestor that is a joint (or itself)."""
    joint_of = {bone: j for j, joint in enumerate(SMPL_JOINTS) for bone in bones_of_joint(joint)}
    merged = np.zeros((len(weights), len(SMPL_JOINTS)))
    for bone in range(len(names)):
        ancestor = bone
        while names[ancestor] not in joint_of:
            ancestor = parents[ancestor]
        merged[:, joint_of[names[ancestor]]] += weights[:, bone]
    return merged


def joints_from_heads(heads: np.ndarray, *, names: Sequence[str]) -> np.ndarray:
    """Joints (N, 24, 3) from bone heads (N, bones, 3)."""
    index = {name: i for i, name in enumerate(names)}
    rows = [[index[bone] for bone in bones_of_joint(joint)] for joint in SMPL_JOINTS]
    return np.stack([heads[:, ids].mean(1) for ids in rows], axis=1)


def rotation_between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Smallest rotations (N, 3, 3) that turn directions ``source`` (N, 3) into ``target`` (3,) or (N, 3)."""
    a = source / np.linalg.norm(source, axis=-1, keepdims=True)
    b = np.broadcast_to(target / np.linalg.norm(target, axis=-1, keepdims=True), a.shape)
    cosine = (a * b).sum(-1)[..., None, None]
    skew = cross_matrix(np.cross(a, b))
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def cross_matrix(v: np.ndarray) -> np.ndarray:
    """Matrices (..., 3, 3) with ``cross_matrix(v) @ x == cross(v, x)``."""
    zero = np.zeros_like(v[..., 0])
    rows = (zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero)
    return np.stack(rows, axis=-1).reshape(*v.shape[:-1], 3, 3)


def rotation_about_x(angle: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) by ``angle`` (radians) about x."""
    c, s = np.cos(angle), np.sin(angle)
    one, zero = np.ones_like(c), np.zeros_like(c)
    return np.stack([one, zero, zero, zero, c, -s, zero, s, c], axis=-1).reshape(*c.shape, 3, 3)


def t_pose_rotations(joints: np.ndarray, heads: np.ndarray, *, names: Sequence[str]) -> np.ndarray:
    """World rotations (N, 24, 3, 3) that take each joint's body part from the artist's pose to the T-pose.

    Arms come to lie along x with the palms down, half of the hand's twist taken by the forearm; legs
    hang straight, a little apart; the trunk, the head and the feet keep their directions.
    ``joints`` (N, 24, 3) and ``heads`` (N, bones, 3) in the artist's pose.
    """
    out = np.broadcast_to(np.eye(3), (*joints.shape[:2], 3, 3)).copy()
    joint = {name: i for i, name in enumerate(SMPL_JOINTS)}
    bone = {name: i for i, name in enumerate(names)}

    def direction(start: str, end: str) -> np.ndarray:
        return joints[:, joint[end]] - joints[:, joint[start]]

    x_axis = np.array([1.0, 0.0, 0.0])
    down = np.array([np.sin(LEG_SPREAD_RAD), -np.cos(LEG_SPREAD_RAD), 0.0])
    out[:, joint["left_hip"]] = rotation_between(direction("left_hip", "left_knee"), down)
    out[:, joint["left_knee"]] = rotation_between(direction("left_knee", "left_ankle"), down)

    upper = rotation_between(direction("left_shoulder", "left_elbow"), x_axis)
    fore = _carried(upper, direction("left_elbow", "left_wrist"), x_axis)
    hand = _carried(fore, direction("left_wrist", "left_hand"), x_axis)
    # Across the palm from the little finger to the index finger: forward when the palm looks down.
    across = heads[:, bone["finger2-1.L"]] - heads[:, bone["finger5-1.L"]]
    across = np.einsum("nij,nj->ni", hand, across)
    twist = np.arctan2(across[:, 1], across[:, 2])
    out[:, joint["left_shoulder"]] = upper
    out[:, joint["left_elbow"]] = rotation_about_x(twist / 2) @ fore
    for name in ("left_wrist", "left_hand"):
        out[:, joint[name]] = rotation_about_x(twist) @ hand
    flip = np.diag([-1.0, 1.0, 1.0])
    for j, name in enumerate(SMPL_JOINTS):
        if name.startswith("right_"):
            out[:, j] = flip @ out[:, SMPL_MIRROR[j]] @ flip
    return out


def _carried(parent: np.ndarray, direction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotations that follow the parent and then take the shortest way to the target direction."""
    return rotation_between(np.einsum("nij,nj->ni", parent, direction), target) @ parent


def turned_joints(joints: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Joints (N, 24, 3) with the pelvis at the origin after their bones are turned by ``rotations``.

    ``rotations`` (N, 24, 3, 3) are those of the body parts in the world, from the artist's pose to the T-pose or back.
    """
    rest = np.zeros_like(joints)
    for j, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            bone = joints[:, j] - joints[:, parent]
            rest[:, j] = rest[:, parent] + np.einsum("nij,nj->ni", rotations[:, parent], bone)
    return rest


def unpose(
    vertices: np.ndarray, *, rotations: np.ndarray, joints: np.ndarray, translations: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Vertices (N, V, 3) of the T-pose from those of the artist's pose.

    ``rotations`` (N, 24, 3, 3) take body parts from the artist's pose to the T-pose; ``joints`` (N, 24, 3) lie in
    the T-pose; ``translations`` (N, 3) are those of the artist's pose. What is applied is the *inverse* of the
    blended transform that poses the result back, so that linear blend skinning of it returns exactly ``vertices``.
    """
    posing = rotations.swapaxes(-1, -2)
    local = local_rotations(posing)
    rest = np.empty_like(vertices)
    for n in range(len(vertices)):
        world, shift = forward_kinematics(local[n], joints[n])
        rest[n] = solve_3x3(
            blended_rotations(weights, world), vertices[n] - translations[n] - weights @ shift
        )
    return rest


def solve_3x3(matrices: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solutions (V, 3) of ``matrices`` (V, 3, 3) @ x = ``right`` (V, 3), by Cramer's rule."""
    (a, b, c), (d, e, f), (g, h, i) = matrices.transpose(1, 2, 0)
    p, q, r = right.T
    # Cofactors, by hand: a library call for each small system is ten times slower.
    ei_fh, fg_di, dh_eg = e * i - f * h, f * g - d * i, d * h - e * g
    x = p * ei_fh + q * (c * h - b * i) + r * (b * f - c * e)
    y = p * fg_di + q * (a * i - c * g) + r * (c * d - a * f)
    z = p * dh_eg + q * (b * g - a * h) + r * (a * e - b * d)
    return np.stack([x, y, z], axis=1) / (a * ei_fh + b * fg_di + c * dh_eg)[:, None]
