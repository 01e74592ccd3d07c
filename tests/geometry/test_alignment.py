import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from geobody.geometry.alignment import align, best_scale, fit_alignment

seeds = st.integers(0, 2**32 - 1)


@given(seeds)
def test_rotation_is_scipys(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 17, 3))
    centred_source, centred_target = source - source.mean(0), target - target.mean(0)
    expected, _ = Rotation.align_vectors(centred_target, centred_source)
    found = fit_alignment(source, target)
    np.testing.assert_allclose(found.R, expected.as_matrix(), atol=1e-6)
    assert np.linalg.det(found.R) == pytest.approx(1)


@given(seeds)
def test_rotation_or_reflection_is_scipys(seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 17, 3))
    R, _ = scipy.linalg.orthogonal_procrustes(source, target)
    expected = source @ R
    found = align(source, target, scale=False, shift=False, reflection=True)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@given(seeds, st.floats(0.1, 10))
def test_a_similarity_is_undone(seed, factor):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(17, 3))
    R = Rotation.random(random_state=seed).as_matrix()
    moved = factor * points @ R.T + rng.normal(size=3)
    fit = fit_alignment(points, moved)
    np.testing.assert_allclose(fit.scale, factor, rtol=1e-9)
    np.testing.assert_allclose(fit.R, R, atol=1e-9)
    np.testing.assert_allclose(fit.apply(points), moved, atol=1e-8)


@given(seeds)
def test_no_small_change_of_the_fit_is_better(seed):
    """The least squares are at a minimum in scale, rotation and shift."""
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(2, 17, 3))
    fitted = align(source, target)
    least = np.square(fitted - target).sum()
    turn = Rotation.from_rotvec(1e-3 * rng.normal(size=3)).as_matrix()
    middle = target.mean(0)
    for other in (
        (fitted - middle) @ turn.T + middle,
        (fitted - middle) * (1 + 1e-3 * rng.normal()) + middle,
        fitted + 1e-3 * rng.normal(size=3),
    ):
        assert np.square(other - target).sum() >= least - 1e-12


def test_a_mirrored_body_is_not_matched_without_reflection():
    points = np.random.default_rng(0).normal(size=(17, 3))
    mirrored = points * [-1, 1, 1]
    assert np.abs(align(points, mirrored, reflection=True) - mirrored).max() < 1e-9
    fit = fit_alignment(points, mirrored)
    assert np.linalg.det(fit.R) == pytest.approx(1)
    assert np.abs(fit.apply(points) - mirrored).max() > 0.1


def test_batches_are_fitted_one_by_one():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(2, 4, 5, 17, 3))
    together = align(source, target)
    for i in range(4):
        for j in range(5):
            np.testing.assert_allclose(together[i, j], align(source[i, j], target[i, j]), atol=1e-12)


def test_flat_points_get_a_rotation():
    """Points in a plane leave the sign of the third axis open; det must still be +1."""
    rng = np.random.default_rng(2)
    flat = rng.normal(size=(17, 3)) * [1, 1, 0]
    fit = fit_alignment(flat, flat @ Rotation.from_euler("z", 40, degrees=True).as_matrix().T)
    assert np.linalg.det(fit.R) == pytest.approx(1)


def test_points_that_coincide_give_numbers():
    target = np.random.default_rng(3).normal(size=(17, 3))
    np.testing.assert_allclose(align(np.zeros((17, 3)), target), np.broadcast_to(target.mean(0), (17, 3)))
    assert best_scale(np.zeros((17, 3)), target) == 0


@given(seeds)
def test_best_scale_is_the_regression_through_the_origin(seed):
    source, target = np.random.default_rng(seed).normal(size=(2, 17, 3))
    expected = np.linalg.lstsq(source.reshape(-1, 1), target.reshape(-1), rcond=None)[0][0]
    assert best_scale(source, target) == pytest.approx(expected)
