"""Linear and dual-quaternion skinning in numpy, for building and judging a body (smplx poses it later)."""

import numpy as np

from geobody.conventions import SMPL_PARENTS


def forward_kinematics(rotations: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (24, 3, 3) and translations (24, 3) that carry each body part from rest to the pose.

    ``rotations`` (24, 3, 3) relative to the parent; ``joints`` (24, 3) at rest, metres.
    """
    world = np.empty_like(rotations)
    placed = np.empty_like(joints)
    for j, parent in enumerate(SMPL_PARENTS):
        if parent < 0:
            world[j], placed[j] = rotations[j], joints[j]
        else:
            world[j] = world[parent] @ rotations[j]
            placed[j] = placed[parent] + world[parent] @ (joints[j] - joints[parent])
    return world, placed - np.einsum("jab,jb->ja", world, joints)


def local_rotations(world: np.ndarray) -> np.ndarray:
    """Rotations (..., 24, 3, 3) relative to the parent from world rotations (..., 24, 3, 3)."""
    parents = np.array(SMPL_PARENTS[1:])
    local = world.copy()
    local[..., 1:, :, :] = world[..., parents, :, :].swapaxes(-1, -2) @ world[..., 1:, :, :]
    return local


def weights_beyond(weights: np.ndarray) -> np.ndarray:
    """Share (V, 24) of each vertex' weight that moves with a joint: its own and that of the joints beyond it."""
    beyond = np.zeros((len(SMPL_PARENTS), len(SMPL_PARENTS)))
    for j in range(len(SMPL_PARENTS)):
        ancestor = j
        while ancestor >= 0:
            beyond[j, ancestor] = 1
            ancestor = SMPL_PARENTS[ancestor]
    return weights @ beyond


def linear_skinning(
    vertices: np.ndarray, weights: np.ndarray, world: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Posed vertices (V, 3) by linear blend skinning, from ``forward_kinematics``' transforms."""
    blended = blended_rotations(weights, world)
    return (blended @ vertices[:, :, None])[:, :, 0] + weights @ shift


def blended_rotations(weights: np.ndarray, world: np.ndarray) -> np.ndarray:
    """Weighted sums (V, 3, 3) of the rotations (24, 3, 3) of a pose."""
    return (weights @ world.reshape(-1, 9)).reshape(-1, 3, 3)


def dual_quaternion_skinning(
    vertices: np.ndarray, weights: np.ndarray, world: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Posed vertices (V, 3) by dual-quaternion skinning (Kavan et al., 2008): joints keep their volume."""
    real = quaternions(world)
    for j, parent in enumerate(SMPL_PARENTS):
        if parent >= 0 and real[j] @ real[parent] < 0:
            real[j] *= -1  # q and -q are one rotation, but their sum is none
    t = np.concatenate([np.zeros((len(shift), 1)), shift], axis=1)
    dual = 0.5 * _quaternion_product(t, real)
    blend, blend_dual = weights @ real, weights @ dual
    norm = np.linalg.norm(blend, axis=1, keepdims=True)
    blend, blend_dual = blend / norm, blend_dual / norm
    w, xyz = blend[:, :1], blend[:, 1:]
    turned = vertices + 2 * cross(xyz, cross(xyz, vertices) + w * vertices)
    moved = 2 * (w * blend_dual[:, 1:] - blend_dual[:, :1] * xyz + cross(xyz, blend_dual[:, 1:]))
    return turned + moved


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products (N, 3) of rows; several times faster than numpy's general one."""
    (ax, ay, az), (bx, by, bz) = a.T, b.T
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=1)


def quaternions(matrices: np.ndarray) -> np.ndarray:
    """Unit quaternions (N, 4), w first, of rotation matrices (N, 3, 3), stable at every angle."""
    m = matrices
    trace = np.trace(m, axis1=1, axis2=2)
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    x = m[:, 2, 1] - m[:, 1, 2]
    y = m[:, 0, 2] - m[:, 2, 0]
    z = m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    # Four multiples of the same quaternion, by w, x, y, z: the one with the largest factor is safe.
    table = np.stack([
        np.stack([1 + trace, x, y, z], 1), np.stack([x, 1 + xx - yy - zz, xy, xz], 1),
        np.stack([y, xy, 1 - xx + yy - zz, yz], 1), np.stack([z, xz, yz, 1 - xx - yy + zz], 1),
    ], axis=1)  # fmt: skip
    best = np.einsum("nkk->nk", table).argmax(1)
    q = table[np.arange(len(m)), best]
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def _quaternion_product(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    w = p[:, :1] * q[:, :1] - (p[:, 1:] * q[:, 1:]).sum(1, keepdims=True)
    return np.concatenate(
        [w, p[:, :1] * q[:, 1:] + q[:, :1] * p[:, 1:] + np.cross(p[:, 1:], q[:, 1:])], axis=1
    )


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Enclosed volume of a closed mesh, in the vertices' unit cubed."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)
