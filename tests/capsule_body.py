"""A body in SMPL's file format made of capsules: 24 joints, every key, written in milliseconds.

It stands in for the open body wherever a test needs *a* body and not *the* body. Its joints are known
exactly (each is the centre of a ring of vertices), it is closed, mirror symmetric, and moves like SMPL.
"""

import json
from pathlib import Path

import numpy as np

from geobody.conventions import H36M_JOINTS, N_BETAS, SMPL_JOINTS, SMPL_PARENTS

SEGMENTS = 8
N_LANDMARKS = 21

_LEFT_AND_MIDDLE = {
    "pelvis": (0.0, 0.0, 0.0), "left_hip": (0.09, -0.08, 0.0), "spine1": (0.0, 0.11, -0.01),
    "left_knee": (0.10, -0.49, 0.0), "spine2": (0.0, 0.24, -0.01), "left_ankle": (0.10, -0.90, -0.02),
    "spine3": (0.0, 0.32, -0.01), "left_foot": (0.12, -0.96, 0.11), "neck": (0.0, 0.51, -0.01),
    "left_collar": (0.08, 0.44, -0.01), "head": (0.0, 0.60, 0.02), "left_shoulder": (0.19, 0.45, -0.01),
    "left_elbow": (0.45, 0.45, -0.02), "left_wrist": (0.70, 0.45, -0.02), "left_hand": (0.79, 0.45, -0.02),
}  # fmt: skip

# Segment that a joint moves: (from, to, radius). A "to" that is no joint is an end point of its own.
_ENDS = {"head_top": (0.0, 0.80, 0.03), "left_toes": (0.13, -0.97, 0.19), "left_fingers": (0.89, 0.45, -0.02)}
_CAPSULES = (
    ("pelvis", "spine1", 0.13), ("spine1", "spine2", 0.12), ("spine2", "spine3", 0.13),
    ("spine3", "neck", 0.12), ("neck", "head", 0.055), ("head", "head_top", 0.09),
    ("left_hip", "left_knee", 0.075), ("left_knee", "left_ankle", 0.05), ("left_ankle", "left_foot", 0.04),
    ("left_foot", "left_toes", 0.035), ("left_collar", "left_shoulder", 0.06),
    ("left_shoulder", "left_elbow", 0.05), ("left_elbow", "left_wrist", 0.04),
    ("left_wrist", "left_hand", 0.035), ("left_hand", "left_fingers", 0.03),
)  # fmt: skip


def _mirrored_name(name: str) -> str:
    return name.replace("left_", "right_")


def _positions() -> dict[str, np.ndarray]:
    out = {}
    for name, xyz in (_LEFT_AND_MIDDLE | _ENDS).items():
        out[name] = np.array(xyz)
        if name.startswith("left_"):
            out[_mirrored_name(name)] = np.array(xyz) * (-1, 1, 1)
    return out


def _capsule(start: np.ndarray, end: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, outward faces, and the position of each vertex along the axis (0 at start, 1 at end).

    Vertex 0 is the start pole, then five rings (the second is centred on ``start``, the fourth on
    ``end``), then the end pole.
    """
    axis = (end - start) / np.linalg.norm(end - start)
    helper = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    u = helper - axis * (helper @ axis)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    angles = 2 * np.pi * np.arange(SEGMENTS) / SEGMENTS
    circle = np.cos(angles)[:, None] * u + np.sin(angles)[:, None] * v
    cap = radius * np.sqrt(0.5)
    rings = [(-cap * axis + start, cap), (start, radius), ((start + end) / 2, radius), (end, radius),
             (cap * axis + end, cap)]  # fmt: skip
    points = [start - radius * axis, *(c + r * p for c, r in rings for p in circle), end + radius * axis]
    along = np.repeat([0.0, 0.0, 0.5, 1.0, 1.0], SEGMENTS)
    faces = []
    last = 1 + SEGMENTS * len(rings)
    for s in range(SEGMENTS):
        t = (s + 1) % SEGMENTS
        faces.append((0, 1 + t, 1 + s))
        for ring in range(len(rings) - 1):
            a, b = 1 + ring * SEGMENTS, 1 + (ring + 1) * SEGMENTS
            faces += [(a + s, a + t, b + t), (a + s, b + t, b + s)]
        faces.append((last, 1 + (len(rings) - 1) * SEGMENTS + s, 1 + (len(rings) - 1) * SEGMENTS + t))
    return np.array(points), np.array(faces), np.concatenate([[0.0], along, [1.0]])


def capsule_body() -> dict[str, np.ndarray]:
    """Arrays of a body file, keyed as SMPL's (V vertices, F faces); metres, T-pose, y up, facing +z."""
    places = _positions()
    joint_id = {name: i for i, name in enumerate(SMPL_JOINTS)}
    vertices: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    rings: dict[str, np.ndarray] = {}
    tops: dict[str, int] = {}
    count = 0
    capsules = []
    for start, end, radius in _CAPSULES:
        capsules.append((start, end, radius, False))
        if start.startswith("left_"):
            capsules.append((start, end, radius, True))
    for start, end, radius, mirrored in capsules:
        points, triangles, along = _capsule(places[start], places[end], radius)
        if mirrored:
            points, triangles = points * (-1, 1, 1), triangles[:, ::-1]
            start, end = _mirrored_name(start), _mirrored_name(end)
        weight = np.zeros((len(points), len(SMPL_JOINTS)))
        own = joint_id[start]
        parent = max(SMPL_PARENTS[own], 0)
        share = np.where(along == 0, 0.3, 0.0)
        weight[:, own] += 1 - share
        weight[:, parent] += share
        rings.setdefault(start, count + 1 + SEGMENTS + np.arange(SEGMENTS))
        rings.setdefault(end, count + 1 + 3 * SEGMENTS + np.arange(SEGMENTS))
        tops[end] = count + len(points) - 1
        vertices.append(points)
        faces.append(triangles + count)
        weights.append(weight)
        count += len(points)
    template = np.concatenate(vertices)

    def regressor(rows: list[np.ndarray]) -> np.ndarray:
        matrix = np.zeros((len(rows), count))
        for i, ids in enumerate(rows):
            matrix[i, ids] = 1 / len(ids)
        return matrix

    h36m = {
        "hip": np.concatenate([rings["left_hip"], rings["right_hip"]]), "spine": rings["spine1"],
        "neck": rings["neck"], "head": rings["head"], "head_top": np.array([tops["head_top"]]),
    }  # fmt: skip
    shapedirs = np.zeros((count, 3, N_BETAS))
    centre = np.concatenate([np.broadcast_to(rows.mean(0), rows.shape) for rows in vertices])
    shapedirs[:, :, 0] = 0.04 * template
    shapedirs[:, :, 1] = 0.1 * (template - centre) * (1, 0.2, 1)
    shapedirs[:, 1, 2] = 0.05 * np.minimum(template[:, 1], 0)
    shapedirs[:, 0, 3] = 0.05 * template[:, 0]
    rng = np.random.default_rng(0)
    for k in range(4, N_BETAS):
        # Smooth in space and even in x, so that every shape stays mirror symmetric.
        waves = rng.normal(size=3) * 4
        phase = np.cos(
            np.abs(template[:, 0]) * waves[0] + template[:, 1] * waves[1] + template[:, 2] * waves[2]
        )
        shapedirs[:, :, k] = 0.01 * phase[:, None] * template
    parents = np.array([2**32 - 1, *SMPL_PARENTS[1:]], dtype=np.uint32)
    return {
        "v_template": template,
        "shapedirs": shapedirs,
        "posedirs": 1e-3 * rng.normal(size=(count, 3, 207)),
        "J_regressor": regressor([rings[name] for name in SMPL_JOINTS]),
        "weights": np.concatenate(weights),
        "kintree_table": np.stack([parents, np.arange(len(SMPL_JOINTS), dtype=np.uint32)]),
        "f": np.concatenate(faces).astype(np.uint32),
        "J_regressor_h36m": regressor([h36m[n] if n in h36m else rings[n] for n in H36M_JOINTS]),
        "landmarks": np.linspace(0, count - 1, N_LANDMARKS).astype(np.int64),
        "meta": np.array(json.dumps({"name": "capsule man", "is_smpl": False, "licence": "CC0-1.0"})),
    }


def write_capsule_body(path: Path) -> Path:
    """The path of a body file that every loader accepts; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=False, **capsule_body())
    return path
