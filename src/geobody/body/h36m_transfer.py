"""Human3.6M's 17 joints on a body whose own regressor for them is not at hand, such as SMPL's.

The open body's joints are carried over by proportion. Where they lie on it is known, so their heights are
kept as shares of the stature, the hips' distance as a share of the stature too, and their depth follows
the new body's own column of joints; knees, ankles, shoulders, elbows and wrists are the new body's own
joints. Sparse non-negative rows are then fitted that find these points again on other shapes and poses,
where each point moves with its body part.

It is a definition and no measurement: Human3.6M's joints come from markers, and on SMPL they were not
compared with any other regressor.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from geobody.body.correctives import pose_features
from geobody.body.joints import (
    BODY_PART,
    FACE_FORWARD,
    FACE_RISE,
    SPINE_HEIGHT,
    STEADY,
    h36m_joints_posed,
)
from geobody.body.poses import random_poses
from geobody.body.shape_space import sparse_row, surrounding
from geobody.body.skinning import forward_kinematics, linear_skinning
from geobody.conventions import H36M_JOINTS, N_BETAS, SMPL_JOINTS
from geobody.progress import progress

HIP_HEIGHT: Final = 0.523
NECK_HEIGHT: Final = 0.852
"""Heights over the sole, as shares of the stature, on the open body in the T-pose."""
HIP_DISTANCE: Final = 0.154
"""Between the hips, as a share of the stature, on the open body: 26 cm at 1.69 m."""
MIDDLE_M: Final = 0.02
"""Vertices this near to the middle plane may be the crown."""

FITTED_BODIES: Final = 80
JUDGED_BODIES: Final = 20
SEED: Final = 17


@dataclass(frozen=True)
class Extremes:
    """Vertices that mark a body's upper and lower end: ids."""

    crown: int
    sole: int


def find_extremes(template: np.ndarray) -> Extremes:
    """The topmost vertex near the middle plane and the lowest one of a template (V, 3) that stands upright."""
    near = np.flatnonzero(np.abs(template[:, 0] - np.median(template[:, 0])) < MIDDLE_M)
    return Extremes(int(near[template[near, 1].argmax()]), int(template[:, 1].argmin()))


def transferred_joints(joints: np.ndarray, *, crown: np.ndarray, sole: np.ndarray) -> np.ndarray:
    """Human3.6M's joints (17, 3) of a body in the T-pose, from SMPL's (24, 3), crown (3,) and sole (3,)."""
    rig = dict(zip(SMPL_JOINTS, joints, strict=True))
    stature = crown[1] - sole[1]
    column = np.stack([rig[name] for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "head")])
    column = column[np.argsort(column[:, 1])]

    def on_column(height: float) -> np.ndarray:
        x, z = (np.interp(height, column[:, 1], column[:, axis]) for axis in (0, 2))
        return np.array([x, height, z])

    hips = (rig["left_hip"] + rig["right_hip"]) / 2
    hip = np.array([hips[0], sole[1] + HIP_HEIGHT * stature, hips[2]])
    out: dict[str, np.ndarray] = {name: rig[name] for name in H36M_JOINTS if name in rig}
    out["hip"] = hip
    for side, name in ((1, "left_hip"), (-1, "right_hip")):
        out[name] = hip + side * np.array([HIP_DISTANCE / 2 * stature, 0.0, 0.0])
    out["neck"] = on_column(sole[1] + NECK_HEIGHT * stature)
    out["spine"] = on_column(hip[1] + SPINE_HEIGHT * (out["neck"][1] - hip[1]))
    rise = crown[1] - out["neck"][1]
    out["head"] = out["neck"] + np.array([0.0, FACE_RISE, FACE_FORWARD]) * rise
    out["head_top"] = crown
    return np.stack([out[name] for name in H36M_JOINTS])


def transfer_regressor(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (17, V), sparse, non-negative, summing to 1, and how far off each is, (17,) mm.

    ``arrays`` are those of a body file but for J_regressor_h36m. The distance is the mean to
    ``transferred_joints``, moved with their body parts, on shapes and poses that the fit did not see.
    The same arrays give the same rows.
    """
    template, weights = arrays["v_template"], arrays["weights"]
    extremes = find_extremes(template)
    rest = transferred_joints(
        arrays["J_regressor"] @ template, crown=template[extremes.crown], sole=template[extremes.sole]
    )
    rng = np.random.default_rng(SEED)
    bodies, targets = _examples(arrays, extremes, count=FITTED_BODIES, rng=rng)
    others, other_targets = _examples(arrays, extremes, count=JUDGED_BODIES, rng=rng)
    rows = np.zeros((len(H36M_JOINTS), len(template)))
    for j, name in enumerate(progress(H36M_JOINTS, desc="Human3.6M's joints")):
        steady = weights[:, SMPL_JOINTS.index(BODY_PART.get(name, name))] > STEADY
        ids = np.union1d(surrounding(template, rest[j]), surrounding(template, rest[j], steady))
        columns = (bodies[:, ids] - targets[:, j, None]).transpose(0, 2, 1).reshape(-1, len(ids))
        rows[j, ids] = sparse_row(columns, np.zeros(len(columns)))
    found = np.einsum("jv,nvc->njc", rows, others, optimize=True)
    return rows, 1000 * np.linalg.norm(found - other_targets, axis=2).mean(0)


def _examples(
    arrays: dict[str, np.ndarray], extremes: Extremes, *, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Shaped and posed bodies (N, V, 3) and their Human3.6M joints (N, 17, 3)."""
    poses, betas = random_poses(count, rng=rng), rng.normal(size=(count, N_BETAS))
    features = pose_features(poses)
    bodies, targets = [], []
    for n in range(count):
        body = arrays["v_template"] + arrays["shapedirs"] @ betas[n]
        joints = arrays["J_regressor"] @ body
        at_rest = transferred_joints(joints, crown=body[extremes.crown], sole=body[extremes.sole])
        world, shift = forward_kinematics(poses[n], joints)
        targets.append(h36m_joints_posed(at_rest, world, shift))
        corrected = body + arrays["posedirs"] @ features[n]
        bodies.append(linear_skinning(corrected, arrays["weights"], world, shift))
    return np.stack(bodies), np.stack(targets)
