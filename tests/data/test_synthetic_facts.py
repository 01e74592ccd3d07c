"""Counting poses against a slow twin, and the metrics' arithmetic on views made by hand."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geobody.data.motions import MAIN_JOINTS
from geobody.data.synthetic_facts import count_distinct, describe, nearest_deg, pose_distances_deg
from geobody.data.synthetic_files import Performance


def random_poses(count: int, spread: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (count, 72))


def slow_distance_deg(a: np.ndarray, b: np.ndarray) -> float:
    first = Rotation.from_rotvec(a.reshape(24, 3)[list(MAIN_JOINTS)])
    second = Rotation.from_rotvec(b.reshape(24, 3)[list(MAIN_JOINTS)])
    squares = np.rad2deg((first.inv() * second).magnitude()) ** 2
    return float(np.sqrt(np.mean(squares)))


def test_distance_is_the_rms_of_the_angles() -> None:
    a, b = random_poses(4, 0.8), random_poses(5, 0.8, seed=1)
    expected = [[slow_distance_deg(x, y) for y in b] for x in a]
    np.testing.assert_allclose(pose_distances_deg(a, b), expected, atol=1e-5)


def test_distance_ignores_the_root_and_the_hands() -> None:
    a = random_poses(1, 0.5)
    b = a.copy()
    b[:, :3] += 1.0
    b[:, 66:] += 1.0
    assert pose_distances_deg(a, b)[0, 0] == pytest.approx(0, abs=1e-4)
    joint = slice(3 * MAIN_JOINTS[3], 3 * MAIN_JOINTS[3] + 3)
    b[0, joint] = (Rotation.from_rotvec(a[0, joint]) * Rotation.from_rotvec([0, 0.6, 0])).as_rotvec()
    assert pose_distances_deg(a, b)[0, 0] == pytest.approx(np.rad2deg(0.6) / np.sqrt(12))


def test_distinct_poses_are_counted_as_a_greedy_list_would() -> None:
    poses = random_poses(150, 0.12)
    kept: list[np.ndarray] = []
    for pose in poses:
        if all(slow_distance_deg(pose, other) >= 11.0 for other in kept):
            kept.append(pose)
    assert 1 < len(kept) < 150
    assert count_distinct(poses, apart_deg=11.0) == len(kept)


def test_a_line_of_poses_is_counted_by_its_length() -> None:
    poses = np.zeros((31, 24, 3))
    poses[:, list(MAIN_JOINTS), 0] = np.deg2rad(np.arange(31))[:, None]  # a degree apart
    assert count_distinct(poses.reshape(-1, 72), apart_deg=9.99) == 4
    assert count_distinct(poses.reshape(-1, 72), apart_deg=31) == 1


def test_nearest_is_the_least_distance() -> None:
    a, b = random_poses(150, 0.4), random_poses(9, 0.4, seed=1)
    np.testing.assert_allclose(nearest_deg(a, b), pose_distances_deg(a, b).min(1))


def test_description_counts_what_it_says() -> None:
    def performance(subject: int, facing: float, hidden: float) -> Performance:
        return Performance(
            subject=subject,
            action=2,
            subaction=1,
            pose=np.full((2, 72), 0.2 * subject, np.float32),
            betas=np.zeros(10, np.float32),
            transl_m=np.zeros((2, 3), np.float32),
            facing_deg=np.array([[facing, 0, 0, 0]] * 2),
            joints_hidden=np.array([[hidden, 0, 0, 0]] * 2),
            crosses_crop=np.array([[True, False, False, False]] * 2),
            crosses_image=np.zeros((2, 4), bool),
        )

    far = np.full((1, 72), -1.0)
    prior = {"train": [far, far], "val": [np.full((3, 72), 0.2)]}
    facts = describe(
        [performance(1, 170.0, 0.0), performance(9, 10.0, 0.8), performance(101, 170.0, 1.0)], prior
    )
    assert (facts["images"], facts["instants"], facts["sequences"], facts["subjects"]) == (16, 4, 8, 2)
    assert facts["facing_away_pct"]["camera_1"] == pytest.approx(50)
    assert facts["facing_away_pct"]["camera_2"] == 0
    assert facts["body_crosses_crop_pct"] == pytest.approx(25)
    assert facts["joints_behind_chair_pct"] == pytest.approx(10)
    assert facts["images_with_joint_behind_chair_pct"] == pytest.approx(12.5)
    assert facts["distinct_poses"] == {"all": 2, "train": 1, "test": 1, "with_prior": 3}
    assert facts["surreal"] == {"train": {"sequences": 2, "poses": 2}, "val": {"sequences": 1, "poses": 3}}
    # The body for evaluation is in no figure of the subjects.
    assert facts["image_files"] == 24
    body = facts["evaluation"]
    assert (body["bodies"], body["poses"], body["images"], body["distinct_poses"]) == (1, 2, 8, 1)
    assert body["to_nearest_train_pose_deg"]["median"] > 30
    assert facts["test_to_nearest_train_pose_deg"]["median"] > 30
