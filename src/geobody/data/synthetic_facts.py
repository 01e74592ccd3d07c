"""What a synthetic set holds, in numbers: counts, variety of poses, facing, borders, occlusion."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from scipy.spatial.transform import Rotation

from geobody.conventions import TEST_SUBJECTS
from geobody.data.motions import MAIN_JOINTS
from geobody.data.synthetic_files import Performance

DISTINCT_DEG: Final = 10.0
AWAY_DEG: Final = 120.0
CHUNK: Final = 128


def pose_distances_deg(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distances (N,M) in degrees of poses (N,72) and (M,72): RMS angle over 12 main joints.

    The root is ignored: the same pose turned round is the same pose.
    """

    def quaternions(pose: np.ndarray) -> np.ndarray:
        joints = pose.reshape(-1, 24, 3)[:, list(MAIN_JOINTS)]
        flat = Rotation.from_rotvec(joints.reshape(-1, 3)).as_quat()
        return flat.reshape(len(pose), len(MAIN_JOINTS), 4).transpose(1, 0, 2)

    a, b = quaternions(first), quaternions(second)
    total = np.zeros((len(first), len(second)))
    for joint in range(len(MAIN_JOINTS)):
        # Angle between rotations: twice the arc cosine of |<q, p>|.
        total += (2 * np.arccos(np.clip(np.abs(a[joint] @ b[joint].T), 0, 1))) ** 2
    return np.rad2deg(np.sqrt(total / len(MAIN_JOINTS)))


def count_distinct(poses: np.ndarray, *, apart_deg: float = DISTINCT_DEG) -> int:
    """Size of a set of poses (N,72), chosen greedily, that are all at least ``apart_deg`` apart."""
    kept = np.zeros(len(poses), bool)
    for start in range(0, len(poses), CHUNK):
        part = poses[start : start + CHUNK]
        far = np.ones(len(part), bool)
        if kept.any():
            far = pose_distances_deg(part, poses[kept]).min(1) >= apart_deg
        among = pose_distances_deg(part, part)
        for i in np.flatnonzero(far):
            if not (among[i, kept[start : start + i].nonzero()[0]] < apart_deg).any():
                kept[start + i] = True
    return int(kept.sum())


def nearest_deg(queries: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Distance (N,) of each query pose (N,72) to the nearest of ``poses`` (M,72), degrees."""
    parts = [pose_distances_deg(queries[i : i + CHUNK], poses).min(1) for i in range(0, len(queries), CHUNK)]
    return np.concatenate(parts)


def describe(performances: Sequence[Performance]) -> Mapping[str, Any]:
    """The nested metrics of a set of performances, plain numbers; deterministic."""
    poses = np.concatenate([p.pose for p in performances])
    subject = np.concatenate([np.full(len(p.pose), p.subject) for p in performances])
    test = np.isin(subject, TEST_SUBJECTS)
    facing = np.concatenate([p.facing_deg for p in performances])
    hidden = np.concatenate([p.joints_hidden for p in performances])
    facts: dict[str, Any] = {
        "images": int(facing.size),
        "instants": len(poses),
        "sequences": facing.shape[1] * len(performances),
        "subjects": len(np.unique(subject)),
        "actions": len({p.action for p in performances}),
        "distinct_poses": {"all": count_distinct(poses)},
        "facing_away_pct": {
            f"camera_{c + 1}": 100 * float((facing[:, c] > AWAY_DEG).mean()) for c in range(facing.shape[1])
        },
        "body_crosses_crop_pct": 100 * float(np.mean(np.concatenate([p.crosses_crop for p in performances]))),
        "body_crosses_image_pct": 100
        * float(np.mean(np.concatenate([p.crosses_image for p in performances]))),
        "joints_behind_chair_pct": 100 * float(hidden.mean()),
        "images_with_joint_behind_chair_pct": 100 * float((hidden > 0).mean()),
    }
    for name, part in (("train", ~test), ("test", test)):
        if part.any():
            facts["distinct_poses"][name] = count_distinct(poses[part])
    if test.any() and not test.all():
        away = nearest_deg(poses[test], poses[~test])
        facts["test_to_nearest_train_pose_deg"] = {
            "median": float(np.median(away)),
            "p5": float(np.percentile(away, 5)),
        }
    return facts
