"""How good a built body is, on bodies and poses that it was not fitted to."""

from typing import Any, Final

import numpy as np

from geobody.body.alignment import RestBodies
from geobody.body.correctives import pose_features
from geobody.body.joints import posed_examples
from geobody.body.open_body import OpenBody
from geobody.body.poses import NAMED_POSES_DEG, named_pose, random_poses, rotation_of_degrees
from geobody.body.shape_space import betas_of, shapes_of, vertex_areas
from geobody.body.skinning import forward_kinematics, linear_skinning, local_rotations, volume
from geobody.conventions import H36M_JOINTS, MM_PER_M, N_BETAS, SMPL_JOINTS

BETA_COUNTS: Final = (1, 2, 3, 5, 10)
TWIST_DEG: Final = 80.0
NEAR_VERTICES: Final = 8


def pose_body(
    body: OpenBody, shape: np.ndarray, rotations: np.ndarray, *, with_posedirs: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Posed vertices (V, 3) and joints (24, 3) of a shape (V, 3) as the body file poses it."""
    joints = body.J_regressor @ shape
    world, shift = forward_kinematics(rotations, joints)
    if with_posedirs:
        shape = shape + body.posedirs @ pose_features(rotations[None])[0]
    posed_joints = np.einsum("jab,jb->ja", world, joints) + shift
    return linear_skinning(shape, body.weights, world, shift), posed_joints


def judge(
    body: OpenBody, held_out: RestBodies, *, full_mesh: tuple[np.ndarray, np.ndarray], seed: int, poses: int
) -> dict[str, Any]:
    """Metrics of a body, nested by what they tell.

    ``held_out`` bodies were not fitted; ``full_mesh`` is the source's vertices (V, 3) in the T-pose and
    its faces, of which the meshes are subsets; ``poses`` random ones are drawn from ``seed``.
    """
    largest = max(body.faces)
    areas = vertex_areas(body.space.mean, body.faces[largest])
    share = areas / areas.sum()
    true = held_out.vertices
    betas = betas_of(true, body.space, areas=areas)
    shapes = shapes_of(betas, body.space)

    def shape_error(n_betas: int) -> float:
        fitted = shapes_of(betas_of(true, body.space, areas=areas, n_betas=n_betas), body.space)
        return float((np.linalg.norm(fitted - true, axis=2) @ share).mean() * MM_PER_M)

    joint_error = np.linalg.norm(body.J_regressor @ shapes - held_out.joints, axis=2).mean(0) * MM_PER_M
    to_artist = local_rotations(held_out.rotations.swapaxes(-1, -2))
    back = []
    for n, shape in enumerate(shapes):
        posed, _ = pose_body(body, shape, to_artist[n])
        back.append(np.linalg.norm(posed + held_out.translations[n] - held_out.artist[n], axis=1) @ share)
    rng = np.random.default_rng([seed, 2])
    size = min(body.faces)
    posed, targets = posed_examples(
        body.space, J_regressor=body.J_regressor, weights=body.weights, posedirs=body.posedirs,
        betas=rng.normal(size=(poses, N_BETAS)), poses=random_poses(poses, rng=rng), crown=body.crown,
    )  # fmt: skip
    h36m_error = np.linalg.norm(body.J_regressor_h36m @ posed - targets, axis=2).mean(0) * MM_PER_M
    at_rest = body.J_regressor_h36m[:, :size] @ body.space.mean[:size]
    h36m = dict(zip(H36M_JOINTS, at_rest, strict=True))
    return {
        "held_out_bodies": len(true),
        "held_out_poses": poses,
        "shape_error_mm": {f"betas_{n}": shape_error(n) for n in BETA_COUNTS},
        "explained_variance_pct": {f"betas_{n}": 100 * float(body.space.explained[n - 1]) for n in BETA_COUNTS},
        "joint_error_mm": {
            "mean": float(joint_error.mean()), "median": float(np.median(joint_error)),
            "by_joint": dict(zip(SMPL_JOINTS, joint_error.tolist(), strict=True)),
        },
        "artist_pose_error_mm": float(np.mean(back) * MM_PER_M),
        "surface_error_mm": {
            f"vertices_{n}": _surface_error(full_mesh, full_mesh[0][body.source_ids[:n]], faces)
            for n, faces in body.faces.items()
        },
        "volume_change_pct": {name: _volume_changes(body, name) for name in NAMED_POSES_DEG},
        "wrist_radius_at_80_deg_of_twist_pct": {
            "without_posedirs": _narrowest_wrist(body, with_posedirs=False),
            "with_posedirs": _narrowest_wrist(body, with_posedirs=True),
        },
        "h36m_joint_error_mm": {
            "mean": float(h36m_error.mean()),
            "by_joint": dict(zip(H36M_JOINTS, h36m_error.tolist(), strict=True)),
        },
        "h36m_proportions_mm": {
            "hip_width": _distance_mm(h36m["left_hip"], h36m["right_hip"]),
            "hip_to_spine": _distance_mm(h36m["hip"], h36m["spine"]),
            "spine_to_neck": _distance_mm(h36m["spine"], h36m["neck"]),
            "neck_to_head": _distance_mm(h36m["neck"], h36m["head"]),
            "head_to_head_top": _distance_mm(h36m["head"], h36m["head_top"]),
        },
        "height_mm": {"mean_body": float(np.ptp(body.space.mean[:, 1]) * MM_PER_M)},
    }  # fmt: skip


def _surface_error(
    full_mesh: tuple[np.ndarray, np.ndarray], vertices: np.ndarray, faces: np.ndarray
) -> dict[str, float]:
    """Distances, mm, of the full mesh's vertices to a smaller one: by vertex, by area, and the largest."""
    distance = surface_distance(full_mesh[0], vertices, faces) * MM_PER_M
    areas = vertex_areas(*full_mesh)
    return {
        "vertex_mean": float(distance.mean()),
        "area_mean": float(distance @ areas / areas.sum()),
        "largest": float(distance.max()),
    }


def _distance_mm(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) * MM_PER_M)


def _volume_changes(body: OpenBody, pose: str) -> dict[str, float]:
    faces = body.faces[max(body.faces)]
    at_rest = volume(body.space.mean, faces)
    out = {}
    for name, with_posedirs in (("without_posedirs", False), ("with_posedirs", True)):
        posed, _ = pose_body(body, body.space.mean, named_pose(pose), with_posedirs=with_posedirs)
        out[name] = 100 * (volume(posed, faces) / at_rest - 1)
    return out


def _narrowest_wrist(body: OpenBody, *, with_posedirs: bool) -> float:
    """The smallest mean radius of a slice of the forearm when the wrist is twisted, in percent of that at rest.

    Ten slices from the elbow's side of the forearm to the hand, twists of +80 and -80 degrees.
    """
    joints = body.J_regressor @ body.space.mean
    elbow, wrist = (joints[SMPL_JOINTS.index(name)] for name in ("left_elbow", "left_wrist"))
    arm = np.flatnonzero(body.space.mean[:, 0] > elbow[0])
    axis = (wrist - elbow) / np.linalg.norm(wrist - elbow)

    def along_and_radius(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        offset = vertices[arm] - elbow
        along = offset @ axis
        return along / np.linalg.norm(wrist - elbow), np.linalg.norm(offset - along[:, None] * axis, axis=1)

    along, at_rest = along_and_radius(body.space.mean)
    narrowest = []
    for angle in (-TWIST_DEG, TWIST_DEG):
        angles = np.zeros((len(SMPL_JOINTS), 3))
        angles[SMPL_JOINTS.index("left_wrist"), 0] = angle
        posed, _ = pose_body(body, body.space.mean, rotation_of_degrees(angles), with_posedirs=with_posedirs)
        _, twisted = along_and_radius(posed)
        for start in np.arange(0.2, 1.2, 0.1):
            part = (along >= start) & (along < start + 0.1)
            narrowest.append(twisted[part].mean() / at_rest[part].mean())
    return 100 * float(min(narrowest))


def surface_distance(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distances (N,) of ``points`` (N, 3) to a mesh's surface, over the faces at the nearest vertices."""
    from scipy.spatial import cKDTree

    around: list[list[int]] = [[] for _ in range(len(vertices))]
    for f, triangle in enumerate(faces.tolist()):
        for v in triangle:
            around[v].append(f)
    _, near = cKDTree(vertices).query(points, k=NEAR_VERTICES)
    lists = [sorted({f for v in row for f in around[v]}) for row in near.tolist()]
    owner = np.repeat(np.arange(len(points)), [len(row) for row in lists])
    candidate = faces[np.concatenate(lists)]
    distance = point_triangle_distance(points[owner], *(vertices[candidate[:, i]] for i in range(3)))
    out = np.full(len(points), np.inf)
    np.minimum.at(out, owner, distance)
    return out


def point_triangle_distance(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Distances (N,) between points and triangles, row by row: to the plane inside, else to an edge."""
    normal = np.cross(b - a, c - a)
    inside = np.ones(len(p), dtype=bool)
    edges = np.full(len(p), np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        along = end - start
        inside &= (np.cross(along, p - start) * normal).sum(1) >= 0
        t = ((p - start) * along).sum(1) / np.maximum((along * along).sum(1), 1e-20)
        edges = np.minimum(edges, np.linalg.norm(p - start - np.clip(t, 0, 1)[:, None] * along, axis=1))
    plane = np.abs(((p - a) * normal).sum(1)) / np.maximum(np.linalg.norm(normal, axis=1), 1e-20)
    return np.where(inside, plane, edges)
