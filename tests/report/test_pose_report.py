import numpy as np
from pytest import approx

from geobody.report.pose_report import pose_report


def test_report_by_hand() -> None:
    truth = np.zeros((2, 17, 3))
    truth[0, 1:, 0] = 170
    truth[1, 1:, 0] = -170
    report = pose_report(truth / 2, truth)
    assert report["mpjpe_17_mm"] == approx(85 * 16 / 17)
    assert report["n_mpjpe_17_mm"] == approx(0, abs=1e-9)
    assert report["spread_mm"] == approx(85)
    assert report["true_spread_mm"] == approx(170)


def test_a_constant_pose_has_no_spread() -> None:
    truth = np.random.default_rng(0).normal(0, 200, (20, 17, 3))
    report = pose_report(np.broadcast_to(truth.mean(0), truth.shape), truth)
    assert report["spread_mm"] == approx(0, abs=1e-9)
    assert report["true_spread_mm"] > 200
    assert report["p_mpjpe_17_mm"] < report["mpjpe_17_mm"]
