"""Readers of BVH and DeepMimic clips, against the clips' own kinematics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geobody.conventions import EVALUATION_SUBJECTS
from geobody.data.actions import action_sequence
from geobody.data.kinematics import FIGURE_OFFSETS_M, JOINT, forward_kinematics, normalise
from geobody.data.motion_files import Clip, read_bvh, read_deepmimic, retarget
from geobody.data.motions import load_motions, subject_blocks
from geobody.errors import DataError

COMMITTED = Path(__file__).resolve().parents[2] / "data" / "motions"

# Legs spread and thigh bones of unlike length, an empty joint on the way to the legs, as CMU's clips have.
TREE = [
    # name, depth, offset
    ("Hips", 0, (0, 0, 0)), ("LHipJoint", 1, (0, 0, 0)), ("LeftUpLeg", 2, (1.4, -1.8, 0)),
    ("LeftLeg", 3, (2.4, -6.7, 0)), ("LeftFoot", 4, (2.5, -7.0, 0)), ("LeftToeBase", 5, (0.2, -0.4, 2.3)),
    ("RHipJoint", 1, (0, 0, 0)), ("RightUpLeg", 2, (-1.4, -1.8, 0)), ("RightLeg", 3, (-2.5, -6.9, 0)),
    ("RightFoot", 4, (-2.5, -7.0, 0)), ("RightToeBase", 5, (-0.2, -0.4, 2.3)),
    ("LowerBack", 1, (0, 0, 0)), ("Spine", 2, (0, 2.0, 0)), ("Spine1", 3, (0, 2.0, 0)),
    ("Neck", 4, (0, 0, 0)), ("Neck1", 5, (0, 1.7, 0.2)), ("Head", 6, (0, 1.8, -0.1)),
    ("LeftShoulder", 4, (0, 0, 0)), ("LeftArm", 5, (3.4, 1.2, -0.3)), ("LeftForeArm", 6, (5.0, 0, 0)),
    ("LeftHand", 7, (3.5, 0, 0)),
    ("RightShoulder", 4, (0, 0, 0)), ("RightArm", 5, (-3.1, 1.3, -0.4)), ("RightForeArm", 6, (-5.2, 0, 0)),
    ("RightHand", 7, (-3.4, 0, 0)),
]  # fmt: skip


def bvh_text(
    angles: np.ndarray,
    frame_time: str = "0.0333333",
    tree: list | None = None,
    turn: np.ndarray | None = None,
) -> str:
    """A BVH of TREE; ``angles`` (T,J,3) degrees about Z, Y, X; ``turn`` puts offsets into other axes."""
    tree = TREE if tree is None else tree
    turn = np.eye(3) if turn is None else turn
    lines, depth_before = ["HIERARCHY"], -1
    for name, depth, offset in tree:
        lines += ["}"] * (depth_before - depth + 1) if depth <= depth_before else []
        lines += [
            f"{'JOINT' if depth else 'ROOT'} {name}",
            "{",
            "OFFSET " + " ".join(map(str, turn @ np.array(offset, float))),
        ]
        place = "Xposition Yposition Zposition " if depth == 0 else ""
        lines.append(f"CHANNELS {6 if depth == 0 else 3} {place}Zrotation Yrotation Xrotation")
        depth_before = depth
    lines += ["}"] * (depth_before + 1)
    lines += ["MOTION", f"Frames: {len(angles)}", f"Frame Time: {frame_time}"]
    for row in angles:
        lines.append(" ".join(f"{v:.6f}" for v in [0.0, 17.0, 0.0, *row.ravel()]))
    return "\n".join(lines) + "\n"


def random_angles(frames: int = 40, joints: int = len(TREE)) -> np.ndarray:
    rng = np.random.default_rng(3)
    start, end = rng.normal(0, 25, (2, joints, 3))
    for torso in (row for row, (name, *_) in enumerate(TREE) if "Spine" in name or name == "LowerBack"):
        start[torso], end[torso] = start[torso] / 4, end[torso] / 2
    u = np.linspace(0, 1, frames)[:, None, None]
    return (1 - u) * start + u * end


@pytest.fixture
def bvh(tmp_path: Path) -> Path:
    path = tmp_path / "clip.bvh"
    path.write_text(bvh_text(random_angles()))
    return path


def mimic_rows(frames: int = 20) -> np.ndarray:
    rng = np.random.default_rng(5)
    row = []
    u = np.linspace(0, 1, frames)[:, None]
    row.append(np.full((frames, 1), 0.0333))
    row.append(np.column_stack([0 * u, 0.85 + 0 * u, 0 * u]))
    for size in (4, 4, 4, 4, 1, 4, 4, 1, 4, 1, 4, 4, 1):
        if size == 1:
            row.append(0.2 + u * 0.8)
        else:
            turn = Rotation.from_rotvec((u - 0.3) * rng.normal(0, 0.6, 3))
            row.append(turn.as_quat()[:, [3, 0, 1, 2]] * 1.3)
    return np.concatenate(row, axis=1)


def write_mimic(path: Path, rows: np.ndarray) -> Path:
    path.write_text(json.dumps({"Loop": "wrap", "Frames": rows.tolist()}))
    return path


def direction_errors(clip: Clip) -> dict[str, np.ndarray]:
    """Degrees between each limb's direction in the source and in the retargeted figure."""
    ours, _ = forward_kinematics(retarget(clip)[0])
    theirs, _ = clip.forward()
    errors = {}
    for side in ("left", "right"):
        for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            one = normalise(ours[:, JOINT[f"{side}_{b}"]] - ours[:, JOINT[f"{side}_{a}"]])
            two = normalise(theirs[:, clip.roles[f"{side}_{b}"]] - theirs[:, clip.roles[f"{side}_{a}"]])
            errors[f"{side}_{a}"] = np.degrees(np.arccos(np.clip(np.sum(one * two, axis=1), -1, 1)))

    def trunk(joints: np.ndarray, index: dict[str, int]) -> np.ndarray:
        top = joints[:, index["left_shoulder"]] + joints[:, index["right_shoulder"]]
        return normalise(top - joints[:, index["left_hip"]] - joints[:, index["right_hip"]])

    # Skeletons put hips and shoulders at other places of the trunk: compare how far it leans from rest.
    rest = forward_kinematics(np.zeros((1, 24, 3)))[0]
    still, _ = replace(clip, rotations=np.tile(np.eye(3), (1, len(clip.names), 1, 1))).forward()
    leans = [
        np.degrees(np.arccos(np.clip(trunk(joints, index) @ trunk(upright, index)[0], -1, 1)))
        for joints, upright, index in ((ours, rest, JOINT), (theirs, still, clip.roles))
    ]
    errors["trunk"] = np.abs(leans[0] - leans[1])
    return errors


def test_a_folder_of_the_users_own_clips_moves_subjects_and_bodies_for_evaluation(tmp_path: Path) -> None:
    (tmp_path / "long.bvh").write_text(bvh_text(random_angles(frames=600)))
    write_mimic(tmp_path / "short.txt", mimic_rows())
    takes = load_motions(tmp_path)
    assert [take.name for take in takes] == ["long", "short"]
    blocks = subject_blocks(takes)
    assert all("long" in {block.take for block in blocks[s]} for s in (1, 5, 9, EVALUATION_SUBJECTS[1]))
    assert "short" in {block.take for own in blocks.values() for block in own}
    for subject in (1, 9, EVALUATION_SUBJECTS[1]):
        motion, other = (
            action_sequence(action=3, subject=subject, subaction=1, frames=4, fps=5.0, seed=0, motions=folder)
            for folder in (tmp_path, COMMITTED)
        )
        assert not np.allclose(motion.poses, other.poses)


def test_limbs_point_where_the_bvh_points(bvh: Path) -> None:
    errors = direction_errors(read_bvh(bvh))
    assert max(np.median(e) for name, e in errors.items() if name != "trunk") < 0.1
    assert np.median(errors["trunk"]) < 8


def test_limbs_point_where_the_humanoid_points(tmp_path: Path) -> None:
    errors = direction_errors(read_deepmimic(write_mimic(tmp_path / "clip.txt", mimic_rows())))
    assert max(np.median(e) for name, e in errors.items() if name != "trunk") < 0.1
    assert np.median(errors["trunk"]) < 8


def test_rest_pose_of_a_t_posed_bvh_is_smpls_rest_pose(tmp_path: Path) -> None:
    bones = {"Leg": "knee", "Foot": "ankle"}
    rest = {
        f"{side}{bone}": FIGURE_OFFSETS_M[JOINT[f"{side.lower()}_{joint}"]]
        for side in ("Left", "Right")
        for bone, joint in bones.items()
    }
    tree = [(name, depth, rest.get(name, offset)) for name, depth, offset in TREE]
    path = tmp_path / "rest.bvh"
    path.write_text(bvh_text(np.zeros((3, len(tree), 3)), tree=tree))
    poses, _ = retarget(read_bvh(path))
    np.testing.assert_allclose(poses, 0, atol=1e-7)


def test_a_z_up_bvh_gives_the_same_poses(tmp_path: Path, bvh: Path) -> None:
    """The same clip in axes with z up: offsets turned, and every rotation conjugated."""
    to_z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    angles = random_angles()
    matrices = Rotation.from_euler("ZYX", angles.reshape(-1, 3), degrees=True).as_matrix()
    other = (
        Rotation.from_matrix(to_z_up @ matrices @ to_z_up.T)
        .as_euler("ZYX", degrees=True)
        .reshape(angles.shape)
    )
    path = tmp_path / "z_up.bvh"
    path.write_text(bvh_text(other, turn=to_z_up))
    np.testing.assert_allclose(retarget(read_bvh(path))[0], retarget(read_bvh(bvh))[0], atol=1e-5)


def test_humanoid_walks_forwards_with_hinges_the_right_way(tmp_path: Path) -> None:
    rows = np.zeros((4, 44))
    rows[:, 0], rows[:, 2] = 0.03, 0.85
    rows[:, 1] = np.arange(4) * 0.1  # its x is forwards
    rows[:, [4, 8, 12, 16, 21, 25, 30, 35, 39]] = 1.0  # unit quaternions
    rows[:, [20, 34]], rows[:, [29, 43]] = -1.0, 1.2  # knees bend backwards, elbows forwards
    clip = read_deepmimic(write_mimic(tmp_path / "clip.txt", rows))
    poses, transl = retarget(clip)
    joints, _ = forward_kinematics(poses)
    assert transl[-1, 2] > transl[0, 2] + 0.2
    knees = poses[:, [4, 5]]
    np.testing.assert_allclose(np.linalg.norm(knees, axis=-1), 1.0, atol=1e-6)
    assert knees[..., 0].min() > np.cos(np.deg2rad(5))  # the hinge is square to a slightly slanted thigh
    for side, sign in (("left", 1), ("right", -1)):
        wrist = joints[0, JOINT[f"{side}_wrist"]] - joints[0, JOINT[f"{side}_elbow"]]
        assert wrist[2] > 0.2
        assert joints[0, JOINT[f"{side}_elbow"], 1] < joints[0, JOINT[f"{side}_shoulder"], 1] - 0.2
        np.testing.assert_allclose(poses[0, JOINT[f"{side}_elbow"]], [0, -sign * 1.2, 0], atol=1e-6)


def test_a_leading_calibration_pose_is_dropped(tmp_path: Path) -> None:
    angles = random_angles()
    angles[0] = 0.0
    path = tmp_path / "clip.bvh"
    path.write_text(bvh_text(angles))
    assert len(read_bvh(path).rotations) == len(angles) - 1


def test_a_surplus_frame_is_ignored_and_a_missing_one_refused(bvh: Path) -> None:
    text = bvh.read_text()
    bvh.write_text(text.replace("Frames: 40", "Frames: 39"))
    assert len(read_bvh(bvh).rotations) == 39
    bvh.write_text(text.replace("Frames: 40", "Frames: 41"))
    with pytest.raises(DataError, match=r"clip\.bvh: says 41 frames and holds 40; export it again"):
        read_bvh(bvh)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("JOINT LeftForeArm", "JOINT Banana", "no joint for SMPL's left_elbow; name one of its joints"),
        ("JOINT Head", "JOINT Top", None),
        ("Frame Time: 0.0333333", "Frame Time: 0", "frame time"),
        ("Frame Time: 0.0333333", "Frame Time: -0.1", "frame time"),
        ("ROOT Hips", "ROTT Hips", "cannot be read as BVH|begins with"),
        ("17.000000", "nan", "finite numbers"),
        ("17.000000 ", "", "frame 1 does not hold"),
        ("MOTION", "MOT", "cannot be read as BVH|begins with"),
    ],
)
def test_broken_bvh_names_file_and_cure(bvh: Path, old: str, new: str, message: str | None) -> None:
    text = bvh.read_text()
    assert old in text
    bvh.write_text(text.replace(old, new))
    if message is None:  # the neck stands in for a head that is not there
        assert len(retarget(read_bvh(bvh))[0]) == 40
        return
    with pytest.raises(DataError, match=message) as caught:
        read_bvh(bvh)
    assert str(caught.value).startswith(str(bvh))
    assert "\n" not in str(caught.value)


def test_uneven_frame_times_are_refused(tmp_path: Path) -> None:
    rows = mimic_rows()
    rows[-1, 0] = 0.0  # the last frame lasts no time in many clips
    assert read_deepmimic(write_mimic(tmp_path / "even.txt", rows)).frame_s == pytest.approx(0.0333)
    rows[7, 0] = 0.05
    with pytest.raises(DataError, match=r"uneven\.txt: frame times run from 0\.0333 to 0\.05 s; resample it"):
        read_deepmimic(write_mimic(tmp_path / "uneven.txt", rows))


def test_clips_of_other_creatures_and_broken_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="20x20 numbers, not 44"):
        read_deepmimic(write_mimic(tmp_path / "dog.txt", mimic_rows()[:, :20]))
    (tmp_path / "cut.txt").write_text('{"Frames": [[0.1, 2')
    with pytest.raises(DataError, match=r"cut\.txt: cannot be read as a DeepMimic clip"):
        read_deepmimic(tmp_path / "cut.txt")
    rows = mimic_rows()
    rows[3, 4:8] = 0.0
    with pytest.raises(DataError, match="quaternion of pelvis vanishes"):
        read_deepmimic(write_mimic(tmp_path / "zero.txt", rows))
