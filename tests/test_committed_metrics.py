"""The committed metrics of the default profile keep the limits that its body, data set and poses were made to."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def metric(name: str, key: str) -> float:
    """A figure of ``metrics/<name>.json``; ``key`` has the names of its place, with dots between."""
    value: Any = json.loads((ROOT / "metrics" / f"{name}.json").read_text())
    for part in key.split("."):
        value = value[part]
    assert isinstance(value, (int, float)), key
    return value


@pytest.mark.parametrize(
    ("key", "limit"),
    [("shape_error_mm.betas_10", 1.2), ("joint_error_mm.mean", 4.5), ("h36m_joint_error_mm.mean", 3.0)],
)
def test_the_body_is_near_bodies_that_it_was_not_fitted_to(key: str, limit: float) -> None:
    assert 0 < metric("body", key) <= limit


def test_who_sits_keeps_the_volume() -> None:
    """Without correctives more than the limit is lost, so the limit asks something of them."""
    assert abs(metric("body", "volume_change_pct.sitting.with_posedirs")) <= 4.5
    assert metric("body", "volume_change_pct.sitting.without_posedirs") < -4.5


@pytest.mark.parametrize(
    ("key", "count"),
    [
        ("subjects", 7),
        ("actions", 15),
        ("images", 11_760),
        ("evaluation.bodies", 40),
        ("evaluation.poses", 400),
    ],
)
def test_the_set_holds_what_it_promises(key: str, count: int) -> None:
    assert metric("synth", key) == count


def test_the_poses_are_of_many_kinds() -> None:
    assert metric("synth", "distinct_poses.with_prior") >= 3_000


def test_few_joints_are_behind_a_chair_but_some_are() -> None:
    assert 0 < metric("synth", "joints_behind_chair_pct") <= 5


def test_no_image_is_counted_twice() -> None:
    assert metric("synth", "image_files") == metric("synth", "images") + metric("synth", "evaluation.images")


@pytest.mark.parametrize("measure", ["mpjpe_17_mm", "n_mpjpe_17_mm", "p_mpjpe_17_mm"])
def test_the_pose_head_is_no_worse_than_the_cnn_with_the_same_labels(measure: str) -> None:
    assert 0 < metric("eval", f"pose.{measure}") <= metric("eval", f"controls.cnn_s1.{measure}")


@pytest.mark.parametrize("placed_by", ["box", "box_off"])
def test_without_a_labelled_root_joints_are_at_most_5_percent_worse(placed_by: str) -> None:
    around_root = metric("eval_crops", "root.pose.n_mpjpe_17_mm")
    assert metric("eval_crops", f"{placed_by}.pose.n_mpjpe_17_mm") <= 1.05 * around_root


def test_predicted_poses_do_not_shrink() -> None:
    assert metric("eval", "pose.spread_mm") >= 0.7 * metric("eval", "test.spread_mm")
