import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crop_fixtures import STANDING_MM
from geobody import metrics

seeds = st.integers(0, 2**32 - 1)


def random_poses(seed: int, n: int = 3, noise_mm: float = 80.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = STANDING_MM + rng.normal(0, 60, (n, 17, 3))
    return true + rng.normal(0, noise_mm, true.shape), true


def test_one_wrong_joint_by_hand():
    """One joint 170 mm off: 170 / 17 = 10 and 170 / 16 = 10.625; 15 of 16 joints within 150 mm."""
    true = STANDING_MM[None]
    predicted = true.copy()
    predicted[0, 5, 1] += 170
    assert metrics.mpjpe(predicted, true, joints=17)[0] == pytest.approx(10)
    assert metrics.mpjpe(predicted, true, joints=16)[0] == pytest.approx(10.625)
    assert metrics.pck(predicted, true)[0] == pytest.approx(15 / 16)
    assert metrics.pck_auc(predicted, true)[0] == pytest.approx(15 / 16)


def test_pck_auc_by_hand():
    """Every joint 75 mm off: right at the 16 thresholds 75, ..., 150 of 31."""
    true = STANDING_MM[None]
    predicted = true + np.array([0, 75, 0])
    predicted[:, 0] = true[:, 0]
    assert metrics.pck_auc(predicted, true)[0] == pytest.approx(16 / 31)


def test_sixteen_is_seventeen_sixteenths_of_seventeen_for_what_is_not_shifted():
    """122.6 mm over 16 joints are 115.4 over 17 (method.md, 6): the root is always right there."""
    predicted, true = random_poses(0)
    for metric in (metrics.mpjpe, metrics.n_mpjpe, metrics.p_mpjpe_orth):
        np.testing.assert_allclose(metric(predicted, true, joints=16), metric(predicted, true) * 17 / 16)


@given(seeds)
def test_the_roots_own_output_counts_nowhere(seed):
    predicted, true = random_poses(seed)
    shifted = predicted + np.random.default_rng(seed).normal(0, 500, (len(predicted), 1, 3))
    for name, values in metrics.pose_metrics(predicted, true).items():
        np.testing.assert_allclose(metrics.pose_metrics(shifted, true)[name], values, atol=1e-6, err_msg=name)


@given(seeds, st.floats(0.2, 5))
def test_what_each_alignment_forgives(seed, factor):
    """N-: scale. P-: rotation, scale, not reflection. orth: rotation and reflection, not scale."""
    _, true = random_poses(seed)
    true = metrics.root_centred(true)
    R = Rotation.random(len(true), random_state=seed).as_matrix()
    turned = np.einsum("nij,nkj->nki", R, true)
    mirrored = true * [-1, 1, 1]
    np.testing.assert_allclose(metrics.n_mpjpe(factor * true, true), 0, atol=1e-6)
    np.testing.assert_allclose(metrics.p_mpjpe(factor * turned, true), 0, atol=1e-5)
    np.testing.assert_allclose(metrics.p_mpjpe_orth(turned, true), 0, atol=1e-5)
    np.testing.assert_allclose(metrics.p_mpjpe_orth(mirrored, true), 0, atol=1e-5)
    assert (metrics.p_mpjpe(mirrored, true) > 1).all()
    expected = abs(factor - 1) * metrics.mpjpe(0 * true, true)
    np.testing.assert_allclose(metrics.p_mpjpe_orth(factor * turned, true), expected, atol=1e-5)


@given(seeds)
def test_scale_is_the_projection_on_the_prediction(seed):
    predicted, true = (metrics.root_centred(p)[0] for p in random_poses(seed, n=1))
    s = np.vdot(predicted, true) / np.vdot(predicted, predicted)
    expected = np.linalg.norm(s * predicted - true, axis=-1).mean()
    assert metrics.n_mpjpe(predicted[None], true[None])[0] == pytest.approx(expected)


@given(seeds)
def test_sums_of_squares_fall_as_alignments_grow(seed):
    """Least squares over more transformations cannot be worse."""
    predicted, true = random_poses(seed)
    squares = {
        kind: np.square(metrics.joint_errors(predicted, true, alignment=kind)).sum(-1)
        for kind in ("none", "scale", "similarity", "orthogonal")
    }
    assert (squares["scale"] <= squares["none"] + 1e-6).all()
    assert (squares["similarity"] <= squares["scale"] + 1e-6).all()
    assert (squares["orthogonal"] <= squares["none"] + 1e-6).all()


def test_unknown_protocols_are_refused():
    with pytest.raises(ValueError, match="rigid"):
        metrics.joint_errors(STANDING_MM[None], STANDING_MM[None], alignment="rigid")
    with pytest.raises(ValueError, match="14"):
        metrics.mean_over_joints(np.ones((2, 17)), joints=14)


def test_action_mean_weighs_actions_not_images():
    found = metrics.summary({"x": np.array([1.0, 1, 1, 5])}, [2, 2, 2, 3])
    assert found == {"x": 2.0, "x_action_mean": 3.0}
    assert metrics.means_by_group([1.0, 3, 5], [4, 2, 4]) == {2: 3.0, 4: 3.0}


def test_spread_by_hand():
    """Two poses that differ by 2 d in every joint but the root lie d from their mean."""
    poses = np.stack([STANDING_MM, STANDING_MM])
    poses[1, 1:, 0] += 60
    assert metrics.spread_mm(poses) == pytest.approx(30)


def test_pve_matches_pelvises_and_p_pve_all_else():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(2, 50, 3))
    shift = np.array([[1.0, 2, 3], [-4, 0, 1]])
    assert metrics.pve(true + np.array([0, 3, 4]), true) == pytest.approx(5)
    np.testing.assert_allclose(
        metrics.pve(true + shift[:, None], true, predicted_pelvis=shift, true_pelvis=np.zeros((2, 3))),
        0,
        atol=1e-12,
    )
    R = Rotation.random(2, random_state=0).as_matrix()
    moved = 1.7 * np.einsum("nij,nkj->nki", R, true) + shift[:, None]
    np.testing.assert_allclose(metrics.p_pve(moved, true), 0, atol=1e-9)


@given(seeds, st.one_of(st.floats(0, 180), st.sampled_from([0.0, 1e-6, 179.999999, 180.0])))
def test_geodesic_is_the_angle_turned(seed, angle_deg):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    R = Rotation.random(random_state=seed).as_matrix()
    S = R @ Rotation.from_rotvec(np.deg2rad(angle_deg) * axis).as_matrix()
    assert metrics.geodesic_deg(R, S) == pytest.approx(angle_deg, abs=2e-6)


def test_iou_by_hand():
    masks = np.zeros((3, 4, 4), bool)
    others = np.zeros((3, 4, 4), bool)
    masks[0, :2], others[0, 1:3] = True, True
    masks[1, :2] = True
    np.testing.assert_allclose(metrics.mask_iou(masks, others), [1 / 3, 0, 1])


def test_psnr_by_hand():
    """An error of 0.1 everywhere is 20 dB; on the half where it is 0.01, 40 dB."""
    true = np.full((1, 8, 8, 3), 0.5)
    predicted = true + 0.1
    assert metrics.psnr(predicted, true)[0] == pytest.approx(20)
    predicted[:, :, :4] = 0.51
    left = np.zeros((1, 8, 8))
    left[:, :, :4] = 1
    assert metrics.psnr(predicted, true, mask=left)[0] == pytest.approx(40)
    assert metrics.psnr(true, true)[0] == 100
    assert np.isnan(metrics.psnr(true, true, mask=0 * left)[0])


def slow_ssim(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map (H,W,C) by Wang's definition, a window at a time."""
    radius, height, width = 5, *x.shape[:2]
    offsets = np.arange(-radius, radius + 1)
    g = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(g, g) / np.outer(g, g).sum()
    pad = [(radius, radius), (radius, radius), (0, 0)]
    x, y = np.pad(x, pad, "symmetric"), np.pad(y, pad, "symmetric")
    found = np.empty((height, width, 3))
    for i in range(height):
        for j in range(width):
            for c in range(3):
                a, b = (p[i : i + 11, j : j + 11, c] for p in (x, y))
                ma, mb = (weights * a).sum(), (weights * b).sum()
                va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
                cab = (weights * (a - ma) * (b - mb)).sum()
                found[i, j, c] = (2 * ma * mb + 1e-4) * (2 * cab + 9e-4)
                found[i, j, c] /= (ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)
    return found


def test_ssim_is_wangs():
    rng = np.random.default_rng(4)
    x = rng.random((2, 16, 14, 3))
    y = np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1)
    expected = np.stack([slow_ssim(a, b) for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(metrics.ssim(x, y), expected.mean((1, 2, 3)), atol=1e-9)
    mask = rng.random((2, 16, 14)) > 0.7
    weighted = [(e.mean(-1) * m).sum() / m.sum() for e, m in zip(expected, mask, strict=True)]
    np.testing.assert_allclose(metrics.ssim(x, y, mask=mask), weighted, atol=1e-9)
    np.testing.assert_allclose(metrics.ssim(x, x), 1)
