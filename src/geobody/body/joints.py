"""Human3.6M's 17 joints on the body: where they lie, and rows that find them from the posed vertices.

Human3.6M's skeleton is not SMPL's: its hips are about 26 cm apart (SMPL's are about 13), its spine
joint lies halfway up the trunk, its neck at the base of the neck, its head in the face, about 12 cm from
the neck, and its head top on the crown.
"""

from typing import Final

import numpy as np

from geobody.body.correctives import pose_features
from geobody.body.shape_space import ShapeSpace, mirrored_rows, shapes_of, surrounding
from geobody.body.skinning import forward_kinematics, linear_skinning
from geobody.conventions import H36M_JOINTS, H36M_MIRROR, SMPL_JOINTS

HIP_WIDTH_RATIO: Final = 1.17
"""Human3.6M's hip distance (26 cm) over the rig's."""
SPINE_HEIGHT: Final = 0.475
"""Where between root and neck the spine joint lies (233 of 490 mm in Human3.6M)."""
FACE_RISE: Final = 0.45
FACE_FORWARD: Final = 0.2
"""The face's centre over the neck, in units of the neck's distance to the crown: up to it, and forward."""

STEADY: Final = 0.7
"""Share of a vertex' weight that ties it to its body part."""

ROW_VERTICES: Final = 24
VERTEX_NOISE_M: Final = 0.001
"""A smaller noise fits better and takes larger weights of both signs, which real noise would be multiplied by."""

BODY_PART: Final = {
    "hip": "pelvis", "right_hip": "pelvis", "left_hip": "pelvis", "spine": "spine2", "neck": "neck",
    "head": "head", "head_top": "head",
}  # fmt: skip
"""The rig's joint that carries a Human3.6M joint; the others are carried by their namesakes."""


def crown_vertex(template: np.ndarray, mirror: np.ndarray) -> int:
    """The topmost vertex on the middle plane of a body that stands upright."""
    middle = np.flatnonzero(mirror == np.arange(len(mirror)))
    return int(middle[template[middle, 1].argmax()])


def h36m_joints_at_rest(joints: np.ndarray, crown: np.ndarray) -> np.ndarray:
    """Human3.6M's joints (17, 3) of a body in the T-pose, from the rig's (24, 3) and its crown (3,)."""
    rig = dict(zip(SMPL_JOINTS, joints, strict=True))
    wide = np.array([HIP_WIDTH_RATIO, 1.0, 1.0])
    out = {name: rig[name] for name in H36M_JOINTS if name in rig}
    out["left_hip"], out["right_hip"] = rig["left_hip"] * wide, rig["right_hip"] * wide
    out["hip"] = (out["left_hip"] + out["right_hip"]) / 2
    height = out["hip"][1] + SPINE_HEIGHT * (out["neck"][1] - out["hip"][1])
    column = np.stack([rig[n] for n in ("pelvis", "spine1", "spine2", "spine3", "neck")])
    out["spine"] = np.array([0.0, height, np.interp(height, column[:, 1], column[:, 2])])
    rise = crown[1] - out["neck"][1]
    out["head"] = out["neck"] + np.array([0.0, FACE_RISE, FACE_FORWARD]) * rise
    out["head_top"] = crown
    return np.stack([out[name] for name in H36M_JOINTS])


def h36m_joints_posed(at_rest: np.ndarray, world: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Human3.6M's joints (17, 3) in a pose: each moves rigidly with its body part."""
    parts = [SMPL_JOINTS.index(BODY_PART.get(name, name)) for name in H36M_JOINTS]
    return np.einsum("jab,jb->ja", world[parts], at_rest) + shift[parts]


def posed_examples(
    space: ShapeSpace, *, J_regressor: np.ndarray, weights: np.ndarray, posedirs: np.ndarray,
    betas: np.ndarray, poses: np.ndarray, crown: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Bodies (N, V, 3) posed as the body file will be, and their true Human3.6M joints (N, 17, 3)."""
    bodies = shapes_of(betas, space)
    corrections = np.einsum("nf,vcf->nvc", pose_features(poses), posedirs, optimize=True)
    targets = []
    for n, body in enumerate(bodies):
        rest_joints = J_regressor @ body
        world, shift = forward_kinematics(poses[n], rest_joints)
        targets.append(h36m_joints_posed(h36m_joints_at_rest(rest_joints, body[crown]), world, shift))
        bodies[n] = linear_skinning(body + corrections[n], weights, world, shift)
    return bodies, np.stack(targets)


def fit_h36m_regressor(
    bodies: np.ndarray, targets: np.ndarray, *, rest: np.ndarray, rest_targets: np.ndarray,
    weights: np.ndarray, mirror: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Rows (17, V), sparse, summing to 1, mirrored, that find the joints on posed bodies.

    Their weights may be negative: no mean of skin that a thigh does not move lies in a hip. ``bodies`` (N, V, 3) and
    ``targets`` (N, 17, 3) to fit; ``rest`` (V, 3) and ``rest_targets`` (17, 3) choose the vertices around each
    joint: the nearest, and the nearest of those whose ``weights`` (V, 24) tie them to the body part that carries it.
    """
    rows = np.zeros((len(H36M_JOINTS), rest.shape[0]))
    for j, name in enumerate(H36M_JOINTS):
        if name.startswith("right_"):
            continue
        part = SMPL_JOINTS.index(BODY_PART.get(name, name))
        steady = weights[:, part] > STEADY
        ids = np.union1d(surrounding(rest, rest_targets[j]), surrounding(rest, rest_targets[j], steady))
        offset = bodies[:, ids] - targets[:, j, None]
        rows[j, ids] = signed_row(offset.transpose(0, 2, 1).reshape(-1, len(ids)))
    return mirrored_rows(rows, mirror=mirror, joint_mirror=H36M_MIRROR, names=H36M_JOINTS)


def signed_row(columns: np.ndarray) -> np.ndarray:
    """Weights (C,), at most ``ROW_VERTICES`` of any sign that sum to 1, that bring ``columns`` (M, C) nearest to 0.

    Ridge regression as if each vertex shook by ``VERTEX_NOISE_M``. The vertices with the smallest weights are
    dropped, a fifth at a time, and the rest fitted again.
    """
    gram = columns.T @ columns / len(columns) + VERTEX_NOISE_M**2 * np.eye(columns.shape[1])
    use = np.arange(columns.shape[1])
    while True:
        weights = np.linalg.solve(gram[np.ix_(use, use)], np.ones(len(use)))
        weights /= weights.sum()
        excess = len(use) - ROW_VERTICES
        if excess <= 0:
            break
        order = np.argsort(np.abs(weights), kind="stable")
        use = np.sort(use[order[min(excess, 1 + len(use) // 5) :]])
    out = np.zeros(columns.shape[1])
    out[use] = weights
    return out
