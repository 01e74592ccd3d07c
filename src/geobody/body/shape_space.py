"""Ten numbers for a body's shape, and the joints that follow from it."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.optimize import nnls

from geobody.conventions import N_BETAS, SMPL_JOINTS, SMPL_MIRROR

N_DIRECTIONS: Final = 60
RANKS: Final = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40)
"""A joint's candidate vertices: in each of 60 directions the nearest, the second, ... so that they surround it."""

SUM_WEIGHT: Final = 100.0
SPREAD_WEIGHT: Final = 1e-3
"""Metres of misfit that the square root of a row's summed squared weights counts as: spreads it a little."""

NEGLIGIBLE: Final = 1e-3


@dataclass(frozen=True)
class ShapeSpace:
    """Mean shape (V, 3), directions (V, 3, 10) for betas of unit variance, and all scores (N, 10)."""

    mean: np.ndarray
    directions: np.ndarray
    scores: np.ndarray
    explained: np.ndarray

    def at(self, size: int) -> "ShapeSpace":
        """The same space at its first ``size`` vertices."""
        return replace(self, mean=self.mean[:size], directions=self.directions[:size])


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """A third of the area of the faces around each vertex: vertices (V, 3), faces (F, 3) -> (V,)."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), minlength=len(vertices))


def mirrored_mean(bodies: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Mean (V, 3) of bodies (N, V, 3), exactly mirror symmetric under ``mirror`` (V,)."""
    mean = bodies.mean(0)
    return (mean + mean[mirror] * np.array([-1.0, 1.0, 1.0])) / 2


def fit_shape_space(bodies: np.ndarray, *, areas: np.ndarray, mirror: np.ndarray) -> ShapeSpace:
    """Area-weighted principal components of ``bodies`` (N, V, 3), their scores scaled to unit variance.

    Signs are fixed so that a positive beta makes the body taller (or, where height hardly changes,
    larger around). Directions are exactly mirror symmetric under ``mirror`` (V,).
    ``explained`` (N,) is the share of the variance that the first components explain, summed up.
    """
    n = len(bodies)
    mean = mirrored_mean(bodies, mirror)
    weight = np.sqrt(areas / areas.sum())[:, None]
    centred = ((bodies - mean) * weight).reshape(n, -1)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    order = np.argsort(values)[::-1]
    values, vectors = np.maximum(values[order], 0), vectors[:, order[:N_BETAS]]
    scores = vectors * np.sqrt(n)
    sums = np.tensordot(scores, bodies, axes=(0, 0)) - scores.sum(0)[:, None, None] * mean
    directions = np.moveaxis(sums, 0, -1) / n
    directions = (directions + directions[mirror] * np.array([-1.0, 1.0, 1.0])[:, None]) / 2
    height = np.ptp(mean[:, 1])
    outline = mean[:, :2] / height
    grows = np.einsum("vck,vc->k", directions[:, :2], outline * areas[:, None])
    signs = np.where(grows < 0, -1.0, 1.0)
    return ShapeSpace(mean, directions * signs, scores * signs, np.cumsum(values) / values.sum())


def betas_of(
    bodies: np.ndarray, space: ShapeSpace, *, areas: np.ndarray, n_betas: int = N_BETAS
) -> np.ndarray:
    """Betas (N, n_betas) that bring the shape space nearest to ``bodies`` (N, V, 3), area-weighted."""
    weight = np.sqrt(areas)[:, None]
    basis = (space.directions[..., :n_betas] * weight[..., None]).reshape(-1, n_betas)
    target = ((bodies - space.mean) * weight).reshape(len(bodies), -1)
    return np.linalg.solve(basis.T @ basis, basis.T @ target.T).T


def shapes_of(betas: np.ndarray, space: ShapeSpace) -> np.ndarray:
    """Bodies (N, V, 3) in the T-pose for betas (N, k)."""
    return space.mean + np.tensordot(betas, space.directions[..., : betas.shape[1]], axes=(1, 2))


def surrounding(points: np.ndarray, centre: np.ndarray, allowed: np.ndarray | None = None) -> np.ndarray:
    """Ids of the vertices nearest to ``centre`` (3,) in each of many directions, out of ``points`` (V, 3)."""
    offset = points - centre
    distance = np.linalg.norm(offset, axis=1)
    if allowed is not None:
        distance = np.where(allowed, distance, np.inf)
    sphere = _fibonacci_sphere(N_DIRECTIONS)
    sector = (offset @ sphere.T).argmax(1)
    chosen = []
    for s in range(N_DIRECTIONS):
        members = np.flatnonzero((sector == s) & np.isfinite(distance))
        by_distance = members[np.argsort(distance[members], kind="stable")]
        chosen.append(by_distance[[rank for rank in RANKS if rank < len(members)]])
    return np.sort(np.concatenate(chosen))


def _fibonacci_sphere(n: int) -> np.ndarray:
    i = np.arange(n) + 0.5
    z = 1 - 2 * i / n
    angle = np.pi * (1 + np.sqrt(5)) * i
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def sparse_row(columns: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Non-negative weights (C,) that sum to 1 and carry ``columns`` (M, C) nearest to ``target`` (M,).

    Weights below 0.001 are dropped and the rest fitted again.
    """
    scale = 1 / np.sqrt(len(target))
    use = np.arange(columns.shape[1])
    for _ in range(2):
        k = len(use)
        system = np.concatenate([
            columns[:, use] * scale, SPREAD_WEIGHT * np.eye(k), np.full((1, k), SUM_WEIGHT)
        ])  # fmt: skip
        right = np.concatenate([target * scale, np.zeros(k), [SUM_WEIGHT]])
        weights, _ = nnls(system, right)
        keep = weights > NEGLIGIBLE
        use, weights = use[keep], weights[keep]
    out = np.zeros(columns.shape[1])
    out[use] = weights / weights.sum()
    return out


def fit_joint_regressor(space: ShapeSpace, joints: np.ndarray, *, mirror: np.ndarray) -> np.ndarray:
    """Rows (24, V), sparse, non-negative, summing to 1, that give the joints of a shape in the T-pose.

    ``joints`` (N, 24, 3) belong to ``space.scores``.
    Each row is fitted to the mean joint and to how the joint moves with each beta. Right rows mirror left.
    """
    n = len(joints)
    mean = joints.mean(0)
    moves = np.einsum("nk,njc->jck", space.scores, joints - mean) / n
    regressor = np.zeros((len(SMPL_JOINTS), len(space.mean)))
    for j, name in enumerate(SMPL_JOINTS):
        if name.startswith("right_"):
            continue
        ids = surrounding(space.mean, mean[j])
        columns = np.concatenate([space.mean[ids, :, None] - mean[j, :, None], space.directions[ids]], axis=2)
        columns = columns.reshape(len(ids), -1).T
        target = np.concatenate([np.zeros((3, 1)), moves[j]], axis=1).ravel()
        regressor[j, ids] = sparse_row(columns, target)
    return mirrored_rows(regressor, mirror=mirror, joint_mirror=SMPL_MIRROR, names=SMPL_JOINTS)


def mirrored_rows(
    rows: np.ndarray, *, mirror: np.ndarray, joint_mirror: tuple[int, ...], names: tuple[str, ...]
) -> np.ndarray:
    """Rows with the right joints' taken from the left's mirror image and the middle ones' made symmetric."""
    out = rows.copy()
    for j, name in enumerate(names):
        if name.startswith("right_"):
            out[j] = rows[joint_mirror[j]][mirror]
        elif joint_mirror[j] == j:
            out[j] = (rows[j] + rows[j][mirror]) / 2
    return out
