"""A report that tells geometry from noise."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from geobody.report.embedding_report import embedding_report

INSTANTS, CAMERAS, POINTS = 40, 4, 30


@pytest.fixture
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of each instant in the world, a rotation of each row, and the rows of each instant."""
    rng = np.random.default_rng(0)
    views = rng.permutation(INSTANTS * CAMERAS).reshape(INSTANTS, CAMERAS)
    R = Rotation.random(INSTANTS * CAMERAS, random_state=1).as_matrix()
    return rng.normal(size=(INSTANTS, POINTS, 3)), R, views


def report(points: np.ndarray, R: np.ndarray, views: np.ndarray) -> dict:
    appearance = np.ones((len(points), 5), np.float32)
    return embedding_report(points.astype(np.float32), appearance, R_world_to_crop=R, views=views)


def test_points_that_turn_with_the_camera_agree_between_views(world: tuple) -> None:
    points_world, R, views = world
    points = np.empty((len(R), POINTS, 3))
    points[views] = np.einsum("icjk,ipk->icpj", R[views], points_world)
    found = report(points, R, views)["l3d"]
    assert found["views"] < 1e-6
    assert found["instants"] == pytest.approx(np.sqrt(2), rel=0.05)


def test_points_that_stay_as_the_camera_turns_do_not(world: tuple) -> None:
    points_world, R, views = world
    points = np.empty((len(R), POINTS, 3))
    points[views] = points_world[:, None]
    found = report(points, R, views)["l3d"]
    assert found["views_over_instants"] == pytest.approx(1, rel=0.05)


def test_noise_is_as_far_between_views_as_between_instants(world: tuple) -> None:
    _, R, views = world
    points = np.random.default_rng(2).normal(size=(len(R), POINTS, 3))
    assert report(points, R, views)["l3d"]["views_over_instants"] == pytest.approx(1, rel=0.05)


def test_an_appearance_that_never_changes_has_no_distance(world: tuple) -> None:
    _, R, views = world
    assert report(np.zeros((len(R), POINTS, 3)), R, views)["l_app"]["instants"] == 0
