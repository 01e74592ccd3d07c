"""The mean body: means of rotations, orientations, and a pose that comes near the labels."""

from pathlib import Path

import numpy as np
import torch
from pytest import approx
from pytorch3d.transforms import axis_angle_to_matrix, random_rotations
from scipy.spatial.transform import Rotation

from capsule_body import write_capsule_body
from geobody.body.model import BodyModel
from geobody.models.mean_body import fit_mean_body, fit_orientation, mean_rotations


def test_mean_rotation_of_a_turn_and_its_opposite_is_none() -> None:
    turns = np.array([[[0.4, 0, 0], [0, 1.0, 0]], [[-0.4, 0, 0], [0, 2.0, 0]]])
    mean = mean_rotations(turns)
    np.testing.assert_allclose(mean[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(mean[1], Rotation.from_rotvec([0, 1.5, 0]).as_matrix(), atol=1e-12)


def test_mean_rotation_agrees_with_scipys_and_turns_with_its_inputs() -> None:
    vectors = np.random.default_rng(0).normal(0, 0.8, (200, 4, 3))
    mean = mean_rotations(vectors)
    for j in range(4):
        np.testing.assert_allclose(mean[j], Rotation.from_rotvec(vectors[:, j]).mean().as_matrix(), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(mean), 1, atol=1e-9)


def test_orientation_of_turned_copies_is_found_from_any_turn() -> None:
    joints = np.random.default_rng(1).normal(0, 300, (17, 3))
    joints[0] = 0
    for rotation in random_rotations(5, dtype=torch.float64).numpy():
        found = fit_orientation(joints, np.repeat((joints @ rotation.T)[None], 3, axis=0))
        np.testing.assert_allclose(found, rotation, atol=1e-6)


def test_orientation_is_no_worse_in_mean_error_than_kabsch_and_the_majoritys() -> None:
    rng = np.random.default_rng(2)
    joints = rng.normal(0, 300, (17, 3)) * (0.4, 1, 0.2)
    joints[0] = 0
    yaws = Rotation.from_rotvec([[0, y, 0] for y in np.r_[np.zeros(6), rng.uniform(0, 6.28, 4)]]).as_matrix()
    poses = joints @ yaws.transpose(0, 2, 1)

    def error(rotation: np.ndarray) -> float:
        return float(np.linalg.norm(joints @ rotation.T - poses, axis=-1).mean())

    found = fit_orientation(joints, poses)
    kabsch = Rotation.align_vectors(poses.mean(0), joints)[0].as_matrix()
    assert error(found) <= error(kabsch) + 1e-3
    assert error(found) <= error(np.eye(3)) + 1e-3  # mm; distances are smoothed below that
    assert np.linalg.det(found) == approx(1)


def test_mean_body_recovers_the_one_pose_that_everybody_has(tmp_path: Path) -> None:
    body = BodyModel.load(write_capsule_body(tmp_path / "body.npz"))
    rng = np.random.default_rng(3)
    pose = rng.normal(0, 0.2, (23, 3))
    rotation = Rotation.from_rotvec([0.3, 2.5, -0.2]).as_matrix()
    with torch.no_grad():
        posed = body(
            betas=torch.zeros(1, 10),
            body_pose=axis_angle_to_matrix(torch.from_numpy(pose).float())[None],
            global_orient=torch.from_numpy(rotation).float()[None],
            transl=torch.zeros(1, 3),
        ).joints_h36m[0].numpy()  # fmt: skip
    labels = 1000 * (posed - posed[0])
    poses_mm = np.repeat(labels[None], 4, 0)
    mean = fit_mean_body(body=body, body_pose=np.repeat(pose[None], 5, 0), poses_mm=poses_mm)
    np.testing.assert_allclose(mean.global_orient, rotation, atol=1e-4)
    np.testing.assert_allclose(mean.body_pose, Rotation.from_rotvec(pose).as_matrix(), atol=1e-5)
    np.testing.assert_array_equal(mean.betas, np.zeros(10))
    assert mean.betas.dtype == mean.body_pose.dtype == mean.global_orient.dtype == np.float32


def joints_mm(body: BodyModel, *, pose: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        joints = body(
            betas=torch.zeros(1, 10),
            body_pose=torch.from_numpy(pose).float()[None],
            global_orient=torch.from_numpy(orientation).float()[None],
            transl=torch.zeros(1, 3),
        ).joints_h36m[0].numpy()  # fmt: skip
    return 1000 * (joints - joints[0])


def test_mean_body_is_nearer_to_the_labels_than_the_mean_pose_of_others_and_stays_a_pose(
    tmp_path: Path,
) -> None:
    body = BodyModel.load(write_capsule_body(tmp_path / "body.npz"))
    rng = np.random.default_rng(4)
    others = rng.normal(0, 0.2, (40, 23, 3))
    bent = others[:12] + np.array([0.35, 0, 0])  # the labelled hold themselves otherwise
    labels = np.stack(
        [
            joints_mm(
                body,
                pose=Rotation.from_rotvec(pose).as_matrix(),
                orientation=Rotation.from_rotvec([0, 0.5 * yaw, 0]).as_matrix(),
            )
            for yaw, pose in zip(rng.normal(0, 1, 12), bent, strict=True)
        ]
    )

    def error(pose: np.ndarray, orientation: np.ndarray) -> float:
        seen = joints_mm(body, pose=pose, orientation=orientation)
        return float(np.linalg.norm(seen - labels, axis=-1).mean())

    chordal = mean_rotations(others)
    upright = joints_mm(body, pose=chordal, orientation=np.eye(3))
    before = error(chordal, fit_orientation(upright, labels))
    mean = fit_mean_body(body=body, body_pose=others, poses_mm=labels)
    assert error(mean.body_pose, mean.global_orient) < 0.9 * before
    turned = Rotation.from_matrix(chordal.transpose(0, 2, 1) @ mean.body_pose).magnitude()
    assert 0.1 < turned.max() < 1.0
    again = fit_mean_body(body=body, body_pose=others, poses_mm=labels)
    assert again.body_pose.tobytes() == mean.body_pose.tobytes()
    assert body.v_template.dtype == torch.float32


def test_labels_say_nothing_about_fingers_so_hands_stay_as_people_hold_them(tmp_path: Path) -> None:
    body = BodyModel.load(write_capsule_body(tmp_path / "body.npz"))
    others = np.random.default_rng(5).normal(0, 0.2, (40, 23, 3))
    orientation = Rotation.from_rotvec([0, 1.0, 0]).as_matrix()
    label = joints_mm(body, pose=mean_rotations(others + 0.2), orientation=orientation)
    mean = fit_mean_body(body=body, body_pose=others, poses_mm=label[None])
    hands = [21, 22]
    np.testing.assert_allclose(mean.body_pose[hands], mean_rotations(others)[hands], atol=0.02)
