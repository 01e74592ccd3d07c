"""What a synthetic set holds, in numbers: counts, variety of poses, facing, borders, occlusion."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from scipy.spatial.transform import Rotation

from geobody.conventions import AWAY_DEG, EVALUATION_SUBJECTS, TEST_SUBJECTS
from geobody.data.motions import MAIN_JOINTS
from geobody.data.synthetic_files import Performance

DISTINCT_DEG: Final = 10.0
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


def describe(
    performances: Sequence[Performance], prior: Mapping[str, Sequence[np.ndarray]]
) -> Mapping[str, Any]:
    """The nested metrics of a whole set, plain numbers; deterministic.

    ``prior``: poses (F,72) of the sequences of each split of the set for the prior. The bodies for
    evaluation have a section of their own: every other figure is of the subjects.
    """
    bodies = [p for p in performances if p.subject in EVALUATION_SUBJECTS]
    subjects = [p for p in performances if p.subject not in EVALUATION_SUBJECTS]
    facts = _describe_subjects(subjects)
    facts["image_files"] = sum(p.facing_deg.size for p in performances)
    poses = [p.pose for p in subjects]
    sequences = [sequence for found in prior.values() for sequence in found]
    facts["distinct_poses"]["with_prior"] = count_distinct(np.concatenate([*poses, *sequences]))
    facts["surreal"] = {
        split: {"sequences": len(found), "poses": sum(map(len, found))} for split, found in prior.items()
    }
    if bodies:
        facts["evaluation"] = _describe_bodies(bodies, subjects)
    return facts


def _describe_bodies(bodies: Sequence[Performance], subjects: Sequence[Performance]) -> dict[str, Any]:
    poses = np.concatenate([p.pose for p in bodies])
    betas = np.stack(list({p.subject: p.betas for p in bodies}.values()))
    trained = [p.pose for p in subjects if p.subject not in TEST_SUBJECTS]
    facts: dict[str, Any] = {
        "bodies": len(betas),
        "poses": len(poses),
        "images": sum(p.facing_deg.size for p in bodies),
        "distinct_poses": count_distinct(poses),
        "betas_std": float(betas.std()),
        "body_crosses_image_pct": 100 * float(np.mean(np.concatenate([p.crosses_image for p in bodies]))),
    }
    if trained:
        facts["to_nearest_train_pose_deg"] = _spread(nearest_deg(poses, np.concatenate(trained)))
    return facts


def _spread(distances_deg: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(distances_deg)), "p5": float(np.percentile(distances_deg, 5))}


def _describe_subjects(performances: Sequence[Performance]) -> dict[str, Any]:
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
        facts["test_to_nearest_train_pose_deg"] = _spread(nearest_deg(poses[test], poses[~test]))
    return facts
