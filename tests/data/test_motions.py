"""Takes: what is committed, how they are divided, and what multiplies them."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geobody.conventions import EVALUATION_SUBJECTS, SMPL_MIRROR, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.kinematics import forward_kinematics
from geobody.data.motion_files import RATE_HZ
from geobody.data.motions import (
    EVALUATION_SHARES,
    GAP_S,
    Motion,
    blend,
    crossfade,
    load_motions,
    mirror,
    resample,
    stretch,
    subject_blocks,
    turned,
)
from geobody.data.synthetic_facts import count_distinct
from geobody.errors import DataError

MOTIONS = Path(__file__).resolve().parents[2] / "data" / "motions"


def random_motion(frames: int = 12, name: str = "m", split: str = "train") -> Motion:
    rng = np.random.default_rng([len(name), frames])
    return Motion(rng.normal(0, 0.5, (frames, 24, 3)), rng.normal(0, 1, (frames, 3)), name, split)


def matrices(poses: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(*poses.shape, 3)


def test_committed_takes_have_400_distinct_poses_in_600_kb() -> None:
    takes = load_motions(MOTIONS)
    assert count_distinct(np.concatenate([take.poses.reshape(-1, 72) for take in takes])) >= 400
    assert sum(path.stat().st_size for path in MOTIONS.iterdir()) < 600_000


def test_committed_takes_say_where_they_come_from() -> None:
    readme = (MOTIONS / "README.md").read_text()
    for path in MOTIONS.glob("*.npz"):
        with np.load(path, allow_pickle=False) as data:
            assert data["poses"].dtype == np.float16
            assert data["fps"] == 30
            assert all(str(data[key]) for key in ("source", "licence", "acknowledgement"))
            if "CMU" in str(data["source"]):
                assert "mocap.cs.cmu.edu" in str(data["acknowledgement"])
                assert "NSF EIA-0196217" in str(data["acknowledgement"])
    assert "obtained from mocap.cs.cmu.edu" in readme


def test_committed_knees_and_elbows_bend_the_right_way() -> None:
    for take in load_motions(MOTIONS):
        assert np.degrees(take.poses[:, [4, 5], 0].min()) > -10, take.name
        assert np.degrees(-take.poses[:, 18, 1].max()) > -10, take.name
        assert np.degrees(take.poses[:, 19, 1].min()) > -10, take.name


def test_no_frame_belongs_to_two_and_blocks_of_a_take_lie_a_second_apart() -> None:
    """The parts of the bodies for evaluation lie end to end, a second from anybody else's."""
    blocks = subject_blocks(load_motions(MOTIONS))
    bodies = EVALUATION_SUBJECTS[:EVALUATION_SHARES]
    assert set(blocks) == {*TRAIN_SUBJECTS, *TEST_SUBJECTS, *bodies}
    spans: dict[str, list[tuple[int, int, bool]]] = {}
    for subject, own in blocks.items():
        assert own, f"subject {subject} has no take"
        for block in own:
            assert block.motion.split == (
                "train" if subject in TRAIN_SUBJECTS else "test" if subject in TEST_SUBJECTS else "evaluation"
            )
            spans.setdefault(block.take, []).append((block.start, block.stop, subject in bodies))
    for parts in spans.values():
        parts.sort()
        for (_, stop, body), (start, _, other) in pairwise(parts):
            assert start - stop >= (0 if body and other else GAP_S * RATE_HZ)


def test_where_there_are_enough_takes_nobody_shares_one() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(20 * RATE_HZ, 40 * RATE_HZ, 16)
    still = [Motion(np.zeros((n, 24, 3)), np.zeros((n, 3)), f"take{k}", "") for k, n in enumerate(lengths)]

    blocks = subject_blocks(still)
    owners: dict[str, set[int]] = {}
    for subject, own in blocks.items():
        for block in own:
            owners.setdefault(block.take, set()).add(0 if subject in EVALUATION_SUBJECTS else subject)
    assert len(owners) == 16
    assert all(len(whose) == 1 for whose in owners.values())
    had = [sum(len(b.motion) for b in blocks[s]) for s in (*TRAIN_SUBJECTS, *TEST_SUBJECTS)]
    assert max(had) < 1.5 * min(had)

    fewer = subject_blocks(still[:15])
    assert {b.take for b in fewer[1]} == {b.take for b in fewer[9]} == {f"take{k}" for k in range(15)}


def test_mirroring_mirrors_the_joints() -> None:
    motion = random_motion()
    offsets = np.random.default_rng(0).normal(0, 0.2, (24, 3))
    offsets = offsets + offsets[list(SMPL_MIRROR)] * [-1, 1, 1]
    joints, _ = forward_kinematics(motion.poses, offsets)
    mirrored, _ = forward_kinematics(mirror(motion).poses, offsets)
    np.testing.assert_allclose(mirrored, joints[:, list(SMPL_MIRROR)] * [-1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(mirror(mirror(motion)).poses, motion.poses, atol=1e-15)


def test_turning_turns_joints_and_path() -> None:
    motion = random_motion()
    turn = Rotation.from_euler("Y", 0.7)
    joints, _ = forward_kinematics(motion.poses)
    after, _ = forward_kinematics(turned(motion, 0.7).poses)
    np.testing.assert_allclose(after, turn.apply(joints.reshape(-1, 3)).reshape(joints.shape), atol=1e-12)
    np.testing.assert_allclose(turned(motion, 0.7).transl_m, turn.apply(motion.transl_m), atol=1e-12)


def test_resampling_keeps_samples_and_halves_the_way_between_them() -> None:
    motion = random_motion()
    out = resample(motion, np.array([0.0, 0.25, 0.5]), 2.0)
    np.testing.assert_allclose(matrices(out.poses[[0, 2]]), matrices(motion.poses[:2]), atol=1e-12)
    half, full = (
        (Rotation.from_rotvec(motion.poses[0]).inv() * Rotation.from_rotvec(poses)).magnitude()
        for poses in (out.poses[1], motion.poses[1])
    )
    np.testing.assert_allclose(half, full / 2, atol=1e-12)
    np.testing.assert_allclose(out.transl_m[1], motion.transl_m[:2].mean(axis=0))


def test_stretching_runs_back_from_the_end() -> None:
    motion = random_motion(5)
    out = stretch(motion, 9, start_s=0.0, tempo=1.0)
    np.testing.assert_allclose(
        matrices(out.poses), matrices(motion.poses[[0, 1, 2, 3, 4, 3, 2, 1, 0]]), atol=1e-9
    )


def test_crossfade_is_blend_for_near_motions_and_never_jumps_for_far_ones() -> None:
    first = 0.2 * random_motion(30, "a").poses
    second = first + 0.3
    weight = np.linspace(0, 1, 30)[:, None]
    np.testing.assert_allclose(
        matrices(crossfade(first, second, weight)), matrices(blend(first, second, weight)), atol=1e-12
    )
    still = np.zeros((61, 1, 3))
    past_half_turn = np.zeros((61, 1, 3))
    past_half_turn[:, 0, 2] = np.deg2rad(np.linspace(150, 210, 61))
    faded = crossfade(still, past_half_turn, np.full((61, 1), 0.5))
    step = (Rotation.from_rotvec(faded[:-1, 0]).inv() * Rotation.from_rotvec(faded[1:, 0])).magnitude()
    assert np.rad2deg(step.max()) < 1
    plain = blend(still, past_half_turn, np.full((61, 1), 0.5))
    jump = (Rotation.from_rotvec(plain[:-1, 0]).inv() * Rotation.from_rotvec(plain[1:, 0])).magnitude()
    assert np.rad2deg(jump.max()) > 170


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def test_loading_reads_rates_and_sorts_by_name(tmp_path: Path) -> None:
    poses = np.linspace(0, 0.5, 21)[:, None] * np.ones(72)
    save(tmp_path / "b.npz", poses=poses.astype(np.float16), fps=60.0)
    save(tmp_path / "a.npz", poses=poses.astype(np.float16), fps=30.0)
    first, second = load_motions(tmp_path)
    assert (first.name, second.name) == ("a", "b")
    assert len(first) == 21
    assert len(second) == 11
    np.testing.assert_allclose(second.poses[5], first.poses[10], atol=2e-3)


def test_loading_sees_a_changed_file(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", poses=np.zeros((5, 72)), fps=30.0)
    load_motions(tmp_path)[0].poses[:] = 7.0
    assert np.all(load_motions(tmp_path)[0].poses == 0)
    save(tmp_path / "a.npz", poses=np.ones((6, 72)), fps=30.0)
    assert len(load_motions(tmp_path)[0]) == 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"poses": np.zeros((5, 72))}, "has no array"),
        ({"poses": np.zeros((5, 70)), "fps": 30.0}, "are not .2 or more, 72. finite numbers"),
        ({"poses": np.full((5, 72), np.nan), "fps": 30.0}, "finite"),
        ({"poses": np.zeros((5, 72)), "fps": 0.0}, "fps 0 is outside"),
        ({"poses": np.zeros((5, 72)), "fps": 30.0, "transl_m": np.zeros((4, 3))}, "does not match"),
    ],
)
def test_broken_npz_names_file_and_cure(tmp_path: Path, arrays: dict, message: str) -> None:
    path = save(tmp_path / "clip.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_motions(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_unreadable_npz_and_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.npz"):
        load_motions(tmp_path)
    with pytest.raises(DataError, match="is no folder of motions"):
        load_motions(tmp_path / "nowhere")
    (tmp_path / "cut.npz").write_bytes((MOTIONS / "01_01.npz").read_bytes()[:4000])
    with pytest.raises(DataError, match=r"cut\.npz: cannot be read"):
        load_motions(tmp_path)
