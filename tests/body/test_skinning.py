"""Skinning and rotations against scipy and against each other."""

import numpy as np
from scipy.spatial.transform import Rotation

from geobody.body.correctives import fit_posedirs, joints_that_bend, mirrored_posedirs, pose_features
from geobody.body.poses import named_pose, random_poses, rotation_of_degrees
from geobody.body.rig import rotation_between, solve_3x3
from geobody.body.skinning import (
    dual_quaternion_skinning,
    forward_kinematics,
    linear_skinning,
    quaternions,
    volume,
)
from geobody.conventions import SMPL_JOINTS, SMPL_MIRROR
from tests.capsule_body import capsule_body


def test_quaternions_are_scipys_up_to_sign_at_every_angle():
    rng = np.random.default_rng(0)
    half_turns = Rotation.from_rotvec(np.pi * np.eye(3))
    rotations = Rotation.concatenate([Rotation.random(200, random_state=1), half_turns, Rotation.identity(1)])
    ours = quaternions(rotations.as_matrix())
    theirs = np.roll(rotations.as_quat(), 1, axis=1)
    np.testing.assert_allclose(np.abs((ours * theirs).sum(1)), 1, atol=1e-12)
    angles = rng.uniform(-170, 170, size=(50, 3))
    expected = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(rotation_of_degrees(angles), expected, atol=1e-12)


def test_small_solvers_meet_numpys():
    rng = np.random.default_rng(1)
    matrices, right = rng.normal(size=(40, 3, 3)), rng.normal(size=(40, 3))
    np.testing.assert_allclose(
        solve_3x3(matrices, right), np.linalg.solve(matrices, right[..., None])[..., 0]
    )
    a, b = rng.normal(size=(2, 20, 3))
    turned = np.einsum("nij,nj->ni", rotation_between(a, b), a)
    np.testing.assert_allclose(
        turned / np.linalg.norm(a, axis=1)[:, None], b / np.linalg.norm(b, axis=1)[:, None]
    )


def test_both_skinnings_agree_where_one_joint_rules():
    body = capsule_body()
    joints = body["J_regressor"] @ body["v_template"]
    world, shift = forward_kinematics(random_poses(1, rng=np.random.default_rng(2))[0], joints)
    rigid = body["weights"].max(1) == 1
    arguments = (body["v_template"][rigid], body["weights"][rigid], world, shift)
    np.testing.assert_allclose(dual_quaternion_skinning(*arguments), linear_skinning(*arguments), atol=1e-12)


def tube() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, weights and joints of a left arm: a tube along x whose weights pass from shoulder to elbow."""
    x, angle = np.meshgrid(np.linspace(0.2, 0.7, 40), 2 * np.pi * np.arange(12) / 12, indexing="ij")
    vertices = np.stack([x.ravel(), 0.04 * np.cos(angle).ravel(), 0.04 * np.sin(angle).ravel()], axis=1)
    elbow = 1 / (1 + np.exp(-(vertices[:, 0] - 0.45) / 0.02))
    weights = np.zeros((len(vertices), len(SMPL_JOINTS)))
    weights[:, SMPL_JOINTS.index("left_elbow")], weights[:, SMPL_JOINTS.index("left_shoulder")] = (
        elbow,
        1 - elbow,
    )
    joints = np.zeros((len(SMPL_JOINTS), 3))
    joints[SMPL_JOINTS.index("left_shoulder")] = (0.2, 0, 0)
    for name in ("left_elbow", "left_wrist", "left_hand"):
        joints[SMPL_JOINTS.index(name)] = (0.45, 0, 0)
    return vertices, weights, joints


def test_dual_quaternions_keep_a_twisted_tube_open_and_correctives_learn_it():
    vertices, weights, joints = tube()
    elbow = SMPL_JOINTS.index("left_elbow")
    assert np.flatnonzero(joints_that_bend(weights).any(0)).tolist() == [elbow]
    angles = np.zeros((80, len(SMPL_JOINTS), 3))
    angles[:, elbow, 0] = np.linspace(-100, 100, 80)
    # The tube and its mirror image, since the correctives are made symmetric.
    both = np.concatenate([vertices, vertices * (-1, 1, 1)])
    both_weights = np.concatenate([weights, weights[:, list(SMPL_MIRROR)]])
    both_joints = np.where(joints.any(1)[:, None], joints, joints[list(SMPL_MIRROR)] * (-1, 1, 1))
    mirror = np.roll(np.arange(len(both)), len(vertices))
    angles[:, SMPL_JOINTS.index("right_elbow"), 0] = np.linspace(-100, 100, 80)
    posedirs = fit_posedirs(
        both, both_joints, both_weights, poses=rotation_of_degrees(angles), mirror=mirror
    )[: len(vertices)]
    angles[0, elbow, 0] = 75
    pose = rotation_of_degrees(angles[0])
    world, shift = forward_kinematics(pose, joints)

    def narrowest(posed: np.ndarray) -> float:
        return float(np.linalg.norm(posed[:, 1:], axis=1).min())

    plain = narrowest(linear_skinning(vertices, weights, world, shift))
    corrected = vertices + posedirs @ pose_features(pose[None])[0]
    assert plain < 0.034
    assert abs(narrowest(dual_quaternion_skinning(vertices, weights, world, shift)) - 0.04) < 1e-9
    assert narrowest(linear_skinning(corrected, weights, world, shift)) > 0.038


def test_mirroring_correctives_twice_changes_nothing_and_matches_mirrored_poses():
    rng = np.random.default_rng(5)
    posedirs = rng.normal(size=(6, 3, 207))
    mirror = np.array([1, 0, 3, 2, 4, 5])
    once = mirrored_posedirs(posedirs, mirror)
    np.testing.assert_array_equal(mirrored_posedirs(once, mirror), posedirs)
    pose = random_poses(1, rng=rng)
    flip = np.diag([-1.0, 1.0, 1.0])
    other = flip @ pose[:, list(SMPL_MIRROR)] @ flip
    expected = ((posedirs @ pose_features(pose)[0]) @ flip)[mirror]
    np.testing.assert_allclose(once @ pose_features(other)[0], expected, atol=1e-12)


def test_named_poses_bend_the_way_they_are_called():
    body = capsule_body()
    joints = body["J_regressor"] @ body["v_template"]
    index = {name: i for i, name in enumerate(SMPL_JOINTS)}

    def placed(name: str) -> dict[str, np.ndarray]:
        world, shift = forward_kinematics(named_pose(name), joints)
        at = np.einsum("jab,jb->ja", world, joints) + shift
        return {joint: at[i] for joint, i in index.items()}

    sitting, raised, standing = placed("sitting"), placed("arms_up"), placed("standing")
    assert sitting["left_knee"][2] > 0.3 and abs(sitting["left_knee"][1] - sitting["left_hip"][1]) < 0.05
    assert sitting["right_ankle"][1] < sitting["right_knee"][1] - 0.3
    assert raised["right_wrist"][1] > raised["head"][1] and standing["left_wrist"][1] < 0.1


def test_volume_of_a_unit_tetrahedron():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert abs(volume(vertices + 5.0, faces) - 1 / 6) < 1e-12
