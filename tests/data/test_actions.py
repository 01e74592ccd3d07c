"""The fifteen actions: they look like what they are called, each subject's own, the same every time."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geobody.conventions import EVALUATION_SUBJECTS, H36M_ACTIONS, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data import actions
from geobody.data.actions import ACTIONS, action_sequence, style_of, surreal_sequences
from geobody.data.kinematics import JOINT, arm_rotations, forward_kinematics, leg_rotations
from geobody.data.motions import Motion, load_motions, subject_blocks
from geobody.data.synthetic_facts import count_distinct, nearest_deg
from geobody.data.synthetic_files import SURREAL_SUBJECTS
from geobody.errors import DataError

MOTIONS = Path(__file__).resolve().parents[2] / "data" / "motions"
SUBJECTS = (*TRAIN_SUBJECTS, *TEST_SUBJECTS)


def perform(action: int, subject: int, seed: int = 0, frames: int = 28, fps: float = 5.0) -> Motion:
    return action_sequence(
        action=action, subject=subject, subaction=1, frames=frames, fps=fps, seed=seed, motions=MOTIONS
    )


@pytest.fixture(scope="module")
def everything() -> dict[tuple[int, int], Motion]:
    return {(subject, action): perform(action, subject) for subject in SUBJECTS for action in H36M_ACTIONS}


def of_action(everything: dict[tuple[int, int], Motion], name: str) -> list[Motion]:
    return [motion for (_, action), motion in everything.items() if H36M_ACTIONS[action] == name]


def joints_in_room(motion: Motion) -> np.ndarray:
    return forward_kinematics(motion.poses)[0] + motion.transl_m[:, None]


def test_every_action_of_human36m_has_a_recipe() -> None:
    assert set(ACTIONS) == set(H36M_ACTIONS.values())


def test_shapes_names_and_splits(everything: dict[tuple[int, int], Motion]) -> None:
    for (subject, action), motion in everything.items():
        assert motion.poses.shape == (28, 24, 3)
        assert motion.transl_m.shape == (28, 3)
        assert motion.poses.dtype == np.float64
        assert motion.split == ("test" if subject in TEST_SUBJECTS else "train")
        assert H36M_ACTIONS[action] in motion.name


def test_same_arguments_same_bytes_other_seed_other_motion() -> None:
    for action in (4, 8, 14):
        once, again, other = perform(action, 5), perform(action, 5), perform(action, 5, seed=1)
        assert once.poses.tobytes() == again.poses.tobytes()
        assert once.transl_m.tobytes() == again.transl_m.tobytes()
        assert not np.allclose(once.poses, other.poses)


def test_people_stand_upright(everything: dict[tuple[int, int], Motion]) -> None:
    for motion in everything.values():
        up = Rotation.from_rotvec(motion.poses[:, 0]).as_matrix()[:, 1, 1]
        assert up.min() > 0.8, motion.name


def test_knees_and_elbows_bend_the_right_way(everything: dict[tuple[int, int], Motion]) -> None:
    for motion in everything.values():
        assert np.degrees(motion.poses[:, [4, 5], 0].min()) > -10, motion.name
        assert np.degrees(motion.poses[:, 18, 1].max()) < 10, motion.name
        assert np.degrees(motion.poses[:, 19, 1].min()) > -10, motion.name


def test_feet_stay_above_the_floor_and_people_within_reach(everything: dict[tuple[int, int], Motion]) -> None:
    for motion in everything.values():
        joints = joints_in_room(motion)
        assert joints[:, :, 1].min() > -0.1, motion.name
        assert np.abs(motion.transl_m[:, [0, 2]]).max() < 1.5, motion.name


def test_arms_rarely_pass_through_the_trunk(everything: dict[tuple[int, int], Motion]) -> None:
    poses = np.concatenate([motion.poses for motion in everything.values()])
    joints, turns = forward_kinematics(poses)
    inside = []
    for name in ("elbow", "wrist", "hand"):
        for side in ("left", "right"):
            seen = np.einsum("tji,tj->ti", turns[:, 9], joints[:, JOINT[f"{side}_{name}"]] - joints[:, 9])
            wide = (seen[:, 0] / 0.15) ** 2 + ((seen[:, 2] - 0.055) / 0.11) ** 2 < 1
            inside.append(wide & (seen[:, 1] < 0.13) & (seen[:, 1] > -0.4))
    assert np.mean(inside) < 0.005


def test_headings_cover_all_directions(everything: dict[tuple[int, int], Motion]) -> None:
    poses = np.concatenate([motion.poses for motion in everything.values()])
    facing = Rotation.from_rotvec(poses[:, 0]).apply([0.0, 0.0, 1.0])
    counts, _ = np.histogram(np.arctan2(facing[:, 0], facing[:, 2]), bins=8, range=(-np.pi, np.pi))
    assert counts.min() > 0.4 * counts.mean()


def test_walkers_walk_and_sitters_sit(everything: dict[tuple[int, int], Motion]) -> None:
    for name in ("Walking", "WalkDog", "WalkTogether"):
        for motion in of_action(everything, name):
            way = np.linalg.norm(np.diff(motion.transl_m[:, [0, 2]], axis=0), axis=1).sum()
            assert way > 2.5, motion.name
    for motion in of_action(everything, "Sitting"):
        assert motion.transl_m[:, 1].max() < 0.7
        assert np.degrees(motion.poses[:, [4, 5], 0]).mean() > 60
    assert min(m.transl_m[:, 1].min() for m in of_action(everything, "SittingDown")) < 0.2


def test_a_walkers_standing_foot_stands() -> None:
    motion = perform(14, 6, frames=150, fps=30.0)
    ankles = joints_in_room(motion)[:, [7, 8]]
    slip = np.linalg.norm(np.diff(ankles, axis=0)[..., [0, 2]], axis=-1) * 30
    assert np.median(slip.min(axis=1)) < 0.1  # metres a second, of the slower foot
    assert np.percentile(slip.max(axis=1), 75) > 1.0


def hand_to(motion: Motion, place: np.ndarray) -> float:
    """The smallest distance over time of either hand to a place in the head's frame, metres."""
    joints, turns = forward_kinematics(motion.poses)
    there = joints[:, JOINT["head"]] + turns[:, JOINT["head"]] @ place
    hands = joints[:, [JOINT["left_hand"], JOINT["right_hand"]]]
    return float(np.linalg.norm(hands - there[:, None], axis=-1).min())


def test_hands_go_where_the_name_says(everything: dict[tuple[int, int], Motion]) -> None:
    mouth, ears = (
        np.array([0.0, -0.03, 0.11]),
        (np.array([0.08, 0.02, -0.01]), np.array([-0.08, 0.02, -0.01])),
    )
    for name in ("Eating", "Smoking"):
        reached = [hand_to(m, mouth) for m in of_action(everything, name)]
        assert np.median(reached) < 0.16, (name, reached)
    phoning = [min(hand_to(m, ear) for ear in ears) for m in of_action(everything, "Phoning")]
    assert np.median(phoning) < 0.16, phoning
    walking = [hand_to(m, mouth) for m in of_action(everything, "Walking")]
    assert min(walking) > 0.4


def flat(motions: Iterable[Motion]) -> np.ndarray:
    return np.concatenate([motion.poses.reshape(-1, 72) for motion in motions])


def test_poses_are_diverse(everything: dict[tuple[int, int], Motion]) -> None:
    assert count_distinct(flat(everything.values())) > 900
    for name in H36M_ACTIONS.values():
        assert count_distinct(flat(of_action(everything, name))) > 30, name


def test_each_subject_has_a_style_and_takes_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({style_of(subject, 0) for subject in SUBJECTS}) == len(SUBJECTS)
    blocks = subject_blocks(load_motions(MOTIONS))
    seen: list[str] = []
    snippet = actions._snippet

    def watched(rng: np.random.Generator, own: list, frames: int) -> np.ndarray:
        seen.extend(block.motion.name for block in own)
        return snippet(rng, own, frames)

    monkeypatch.setattr(actions, "_snippet", watched)
    perform(2, 9)
    assert set(seen) == {block.motion.name for block in blocks[9]}


@pytest.mark.parametrize("subject", [*SUBJECTS, EVALUATION_SUBJECTS[0], EVALUATION_SUBJECTS[17]])
def test_no_subjects_motion_depends_on_a_frame_of_anybody_elses(
    subject: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All frames of the takes but the subject's own change: mirrored, mixed or swayed, none is read."""
    takes = load_motions(MOTIONS)
    own = {
        (block.take, n) for block in subject_blocks(takes)[subject] for n in range(block.start, block.stop)
    }
    spoilt: dict[bool, list[Motion]] = {}
    rng = np.random.default_rng(0)
    for keep in (True, False):
        spoilt[keep] = []
        for take in takes:
            other = np.array([((take.name, n) in own) != keep for n in range(len(take))])
            poses = take.poses + other[:, None, None] * rng.normal(0, 0.5, take.poses.shape)
            spoilt[keep].append(Motion(poses, take.transl_m, take.name, take.split))
    for action in (2, 3, 7, 8):
        clean = perform(action, subject)
        with monkeypatch.context() as patched:
            patched.setattr(actions, "load_motions", lambda _: spoilt[True])
            assert perform(action, subject).poses.tobytes() == clean.poses.tobytes()
            patched.setattr(actions, "load_motions", lambda _: spoilt[False])
            assert np.abs(perform(action, subject).poses - clean.poses).max() > 1e-3


def test_a_later_start_shows_the_same_performance_later() -> None:
    whole = perform(14, 1, frames=61, fps=30.0)
    late = action_sequence(
        action=14, subject=1, subaction=1, frames=1, fps=5.0, seed=0, motions=MOTIONS, start_s=2.0
    )
    assert late.poses.shape == (1, 24, 3)
    np.testing.assert_allclose(late.poses[0], whole.poses[60], atol=1e-9)


def test_bodies_for_evaluation_stand_upright_and_differ() -> None:
    bodies = EVALUATION_SUBJECTS[:6]
    motions = [
        action_sequence(
            action=a, subject=s, subaction=1, frames=1, fps=5.0, seed=0, motions=MOTIONS, start_s=0.3 * a
        )
        for s in bodies
        for a in H36M_ACTIONS
    ]
    assert {motion.split for motion in motions} == {"evaluation"}
    poses = np.concatenate([motion.poses for motion in motions])
    assert Rotation.from_rotvec(poses[:, 0]).as_matrix()[:, 1, 1].min() > 0.8
    assert count_distinct(poses.reshape(-1, 72)) > 0.85 * len(poses)


def for_prior(split: str, count: int, frames: int = 30) -> list[Motion]:
    return surreal_sequences(
        count=count, frames=frames, seed=0, motions=MOTIONS, subjects=SURREAL_SUBJECTS[split]
    )


def test_the_priors_splits_share_no_frame_and_none_is_a_test_subjects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: dict[str, set[tuple[str, int]]] = {"train": set(), "val": set()}
    snippet = actions._snippet
    for split, frames in drawn.items():

        def watched(rng: np.random.Generator, own: list, length: int, frames: set = frames) -> np.ndarray:
            frames.update((block.take, n) for block in own for n in range(block.start, block.stop))
            return snippet(rng, own, length)

        monkeypatch.setattr(actions, "_snippet", watched)
        for_prior(split, 6, frames=20)
    assert min(len(frames) for frames in drawn.values()) > 300
    assert not drawn["train"] & drawn["val"]
    tested = [block for s in TEST_SUBJECTS for block in subject_blocks(load_motions(MOTIONS))[s]]
    reserved = {(block.take, n) for block in tested for n in range(block.start, block.stop)}
    assert not reserved & (drawn["train"] | drawn["val"])


@pytest.mark.parametrize("kind", ["real", "act", "mix"])
def test_validation_poses_of_the_prior_are_far_from_its_training_poses(kind: str) -> None:
    """Windows of takes that training draws from would lie a degree away."""
    train, val = for_prior("train", 150), for_prior("val", 30)
    away = nearest_deg(flat(m for m in val if m.name.startswith(kind))[::3], flat(train))
    assert np.median(away) > 10
    assert np.mean(away < 5) < 0.2


def test_prior_sequences_are_varied_and_repeatable() -> None:
    once, again = for_prior("train", 60, frames=45), for_prior("train", 60, frames=45)
    assert [m.poses.shape for m in once] == [(45, 24, 3)] * 60
    assert all(a.poses.tobytes() == b.poses.tobytes() for a, b in zip(once, again, strict=True))
    assert {m.split for m in once} == {"train"}
    assert count_distinct(flat(once)) > 300


def test_motion_does_not_depend_on_the_frame_rate() -> None:
    slow, fast = perform(14, 1, frames=10, fps=5.0), perform(14, 1, frames=91, fps=50.0)
    np.testing.assert_allclose(slow.transl_m, fast.transl_m[::10], atol=1e-9)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        action_sequence(
            action=2, subject=1, subaction=1, frames=4, fps=5.0, seed=0, motions=tmp_path / "nowhere"
        )


def test_a_folder_with_one_short_clip_serves_everyone(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", poses=np.zeros((20, 72)), fps=30.0)
    for subject in SUBJECTS:
        motion = action_sequence(
            action=3, subject=subject, subaction=1, frames=6, fps=5.0, seed=0, motions=tmp_path
        )
        assert np.isfinite(motion.poses).all()


@pytest.mark.parametrize("side", [1, -1])
def test_two_bone_arms_and_legs_reach_their_targets(side: int) -> None:
    rng = np.random.default_rng(1)
    prefix = "left_" if side > 0 else "right_"
    out = np.column_stack(
        [side * rng.uniform(0.2, 0.4, 50), rng.uniform(-0.2, 0.3, 50), rng.uniform(0.25, 0.35, 50)]
    )
    pole = np.tile([side * 1.0, -1.0, -0.5], (50, 1))
    poses = np.zeros((50, 24, 3))
    collar, shoulder, elbow = arm_rotations(out, pole, side)
    poses[:, JOINT[prefix + "collar"]], poses[:, JOINT[prefix + "shoulder"]] = collar, shoulder
    poses[:, JOINT[prefix + "elbow"]] = elbow
    ankle = np.column_stack(
        [side * rng.uniform(0.0, 0.2, 50), rng.uniform(-0.8, -0.5, 50), rng.uniform(-0.2, 0.3, 50)]
    )
    sole = Rotation.from_euler("Y", rng.uniform(-0.5, 0.5, (50, 1))).as_matrix()
    hip, knee, foot = leg_rotations(ankle, np.tile([0.0, 0.2, 1.0], (50, 1)), sole, side)
    poses[:, JOINT[prefix + "hip"]], poses[:, JOINT[prefix + "knee"]] = hip, knee
    poses[:, JOINT[prefix + "ankle"]] = foot
    joints, turns = forward_kinematics(poses)
    np.testing.assert_allclose(joints[:, JOINT[prefix + "wrist"]] - joints[:, 9], out, atol=1e-9)
    np.testing.assert_allclose(joints[:, JOINT[prefix + "ankle"]], ankle, atol=1e-9)
    np.testing.assert_allclose(turns[:, JOINT[prefix + "ankle"]], sole, atol=1e-9)
    assert knee[:, 0].min() > 0
    assert (-side * elbow[:, 1]).min() > 0
