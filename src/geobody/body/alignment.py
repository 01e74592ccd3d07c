"""Brings bodies into one and the same T-pose: small turns of their joints that the betas need not explain.

People stand in the artist's pose each a little differently, and what is left of that in the T-pose would be
taken for shape. So each body is turned, joint by joint and by tenths of a degree, to where it meets the
shape space best, as scans are registered before a body's shapes are learnt from them.
"""

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from geobody.body.correctives import pose_features
from geobody.body.rig import turned_joints, unpose
from geobody.body.shape_space import ShapeSpace
from geobody.body.skinning import local_rotations, weights_beyond
from geobody.conventions import SMPL_JOINTS, SMPL_MIRROR, SMPL_PARENTS

TURN_SD_RAD: Final = 0.05
"""A turn by this much costs as much as a misfit of ``MISFIT_SD_M`` all over the body."""
MISFIT_SD_M: Final = 0.002

MIRRORED_TURN: Final = np.array([1.0, -1.0, -1.0])
"""What the mirror image does to a rotation vector."""


CHUNK: Final = 100


@dataclass(frozen=True)
class RestBodies:
    """Bodies in the T-pose, and how they get back to the artist's pose that they came from.

    vertices (N, V, 3); joints (N, 24, 3) of the source; artist (N, V, 3) and artist_joints (N, 24, 3) in the
    artist's pose; rotations (N, 24, 3, 3), from there to the T-pose; translations (N, 3): what a body posed by
    the inverse rotations has to be moved by to stand where the artist's does. Metres.
    """

    vertices: np.ndarray
    joints: np.ndarray
    artist: np.ndarray
    artist_joints: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray

    def at(self, size: int) -> "RestBodies":
        """The same bodies at their first ``size`` vertices."""
        return replace(self, vertices=self.vertices[:, :size], artist=self.artist[:, :size])

    def first(self, n: int) -> "RestBodies":
        """The first ``n`` of the bodies."""
        return RestBodies(**{field.name: getattr(self, field.name)[:n] for field in fields(self)})


def to_rest(
    artist: np.ndarray, artist_joints: np.ndarray, *, rotations: np.ndarray, translations: np.ndarray,
    pivots: np.ndarray, weights: np.ndarray, posedirs: np.ndarray | None = None,
) -> RestBodies:  # fmt: skip
    """Bodies (N, V, 3) brought to the T-pose by the inverse of what poses them back.

    ``pivots`` (N, 24, 3) are the T-pose's joints that the body turns about; ``posedirs`` (V, 3, 207), if any, are
    taken off again. The rest as in ``RestBodies``.
    """
    vertices = np.empty_like(artist)
    for start in range(0, len(artist), CHUNK):
        part = slice(start, start + CHUNK)
        vertices[part] = unpose(
            artist[part], rotations=rotations[part], joints=pivots[part], translations=translations[part],
            weights=weights,
        )  # fmt: skip
        if posedirs is not None:
            features = pose_features(local_rotations(rotations[part].swapaxes(-1, -2)))
            vertices[part] -= (features @ posedirs.reshape(-1, features.shape[1]).T).reshape(
                -1, *posedirs.shape[:2]
            )
    # A joint keeps its place in the body part that turns about it, as the vertices do.
    placed = turned_joints(pivots, rotations.swapaxes(-1, -2)) + pivots[:, :1]
    from_pivots = artist_joints - translations[:, None] - placed
    joints = pivots + np.einsum("njab,njb->nja", rotations, from_pivots)
    return RestBodies(vertices, joints, artist, artist_joints, rotations, translations)


def step_nearer(
    bodies: RestBodies, space: ShapeSpace, *, regressor: np.ndarray, posedirs: np.ndarray, weights: np.ndarray,
    areas: np.ndarray,
) -> RestBodies:  # fmt: skip
    """The bodies in T-poses a step nearer to the shape space, unposed as the body file will pose them.

    That is about the joints of ``regressor`` (24, V), with ``posedirs`` (V, 3, 207). Repeated, it settles.
    """
    turns, moves = nearest_turns(
        bodies.vertices, space, joints=regressor @ space.mean, weights=weights, areas=areas
    )
    pivots = regressor @ bodies.vertices
    turned_pivots = turned_joints(pivots, turns) + (pivots[:, 0] + moves)[:, None]
    return to_rest(
        bodies.artist, bodies.artist_joints, rotations=turns @ bodies.rotations,
        translations=bodies.translations - moves, pivots=turned_pivots, weights=weights, posedirs=posedirs,
    )  # fmt: skip


def nearest_turns(
    bodies: np.ndarray, space: ShapeSpace, *, joints: np.ndarray, weights: np.ndarray, areas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (N, 24, 3, 3) of body parts and moves (N, 3) that bring T-posed bodies to the shape space.

    One step of Gauss and Newton: betas, turns and move together bring ``bodies`` (N, V, 3) nearest, area-weighted,
    to the space. The derivatives are those of the mean body with ``joints`` (24, 3), the same for all bodies;
    they are mirror symmetric, and so are the turns. A body turned so is nearer, and the step can be repeated.
    """
    columns, axes = _turn_columns(space.mean, joints, weights)
    share = np.sqrt(areas / areas.sum())[:, None]
    flat = [(m * share[..., None]).reshape(-1, m.shape[-1]) for m in (space.directions, columns)]
    system = np.concatenate([flat[0], -flat[1]], axis=1)
    n_betas, n_turns = flat[0].shape[1], len(axes)
    cost = np.zeros(system.shape[1])
    cost[n_betas : n_betas + n_turns] = (MISFIT_SD_M / TURN_SD_RAD) ** 2
    target = ((bodies - space.mean) * share).reshape(len(bodies), -1)
    solved = np.linalg.solve(system.T @ system + np.diag(cost), system.T @ target.T).T
    vectors = np.zeros((len(bodies), len(SMPL_JOINTS), 3))
    for k, (j, axis) in enumerate(axes):
        vectors[:, j, axis] = solved[:, n_betas + k]
        if SMPL_MIRROR[j] != j:
            vectors[:, SMPL_MIRROR[j], axis] = solved[:, n_betas + k] * MIRRORED_TURN[axis]
    turns = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)
    for j, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            turns[:, j] = turns[:, parent] @ turns[:, j]
    moves = np.zeros((len(bodies), 3))
    moves[:, 1:] = solved[:, n_betas + n_turns :]
    return turns, moves


def _turn_columns(
    mean: np.ndarray, joints: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """How the vertices move, (V, 3, turns + 2), with each mirror-symmetric turn, up and forward; and the turns.

    A turn is a joint and an axis. A joint of the middle turns about x alone; a left joint takes the right along.
    """
    beyond = weights_beyond(weights)

    def moved(j: int, turn: np.ndarray) -> np.ndarray:
        return np.cross(turn, mean - joints[j]) * beyond[:, j, None]

    columns, axes = [], []
    for j, name in enumerate(SMPL_JOINTS):
        if name.startswith("right_"):
            continue
        other = SMPL_MIRROR[j]
        for axis, turn in enumerate(np.eye(3)):
            if other != j:
                columns.append(moved(j, turn) + moved(other, turn * MIRRORED_TURN))
            elif axis == 0:
                columns.append(moved(j, turn))
            else:
                continue
            axes.append((j, axis))
    columns += [np.broadcast_to(move, mean.shape) for move in np.eye(3)[1:]]
    return np.stack(columns, axis=-1), axes
