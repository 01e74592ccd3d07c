"""Cameras look at the people, rooms are where they say, chairs are chairs."""

import numpy as np
import pytest

from geobody.data import rooms
from geobody.geometry.cameras import Camera
from geobody.render.scene import project

SUBJECTS = (1, 5, 6, 7, 8, 9, 11)


def cameras(subject: int = 1, size: int = 96) -> tuple[Camera, ...]:
    return rooms.cameras(seed=0, subject=subject, image_size_px=size)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_cameras_see_the_middle_from_four_sides(subject: int) -> None:
    seen = cameras(subject)
    for camera in seen:
        np.testing.assert_allclose(camera.R_world_to_cam @ camera.R_world_to_cam.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.R_world_to_cam) == pytest.approx(1)
        centre = camera.centre_world_mm / 1000
        assert 4.2 < np.hypot(*centre[:2]) < 4.8
        assert 1.2 <= centre[2] <= 1.8
        px, depth = project(camera, np.array([0.0, 0.0, 0.92]))
        assert depth > 4
        assert np.abs(px - 47.5).max() < 0.06 * 96
        # Up in the world is up in the picture.
        above, _ = project(camera, np.array([0.0, 0.0, 1.5]))
        assert above[1] < px[1] - 5
    azimuths = np.sort(np.arctan2(*np.array([c.centre_world_mm[1::-1] for c in seen]).T))
    assert np.diff(azimuths).min() > np.deg2rad(70)


def test_subjects_have_cameras_of_their_own_that_scale_with_the_image() -> None:
    centres = np.array([[c.centre_world_mm for c in cameras(s)] for s in SUBJECTS])
    spread = centres.std(0)
    assert (spread[:, :2].max(1) > 20).all()
    assert (np.linalg.norm(centres - centres.mean(0), axis=-1) < 500).all()
    small, large = cameras(5, 96)[2], cameras(5, 192)[2]
    np.testing.assert_array_equal(small.centre_world_mm, large.centre_world_mm)
    np.testing.assert_allclose(large.focal_px, 2 * small.focal_px)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Camera, np.ndarray, np.ndarray]]:
    boxes = rooms.furniture(seed=0, subject=1)
    lamp = rooms.light(seed=0, subject=1)
    return [(c, *rooms.render_room(c, boxes, lamp, seed=0)) for c in cameras()]


def test_floor_is_where_the_floor_is(drawn: list[tuple[Camera, np.ndarray, np.ndarray]]) -> None:
    rng = np.random.default_rng(0)
    for camera, image, floor in drawn:
        assert image.shape == (96, 96, 3)
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1
        on_floor = np.column_stack([rng.uniform(-1.8, 1.8, (60, 2)), np.zeros(60)])
        on_wall = np.column_stack(
            [rng.uniform(-4, 4, 60), np.full(60, rooms.HALF_SIDE_M), rng.uniform(0.3, 3, 60)]
        )
        for points, expected in ((on_floor, 1), (on_wall, 0)):
            px, depth = project(camera, points)
            cells = np.rint(px).astype(int)
            ok = (depth > 0.5) & (cells >= 1).all(1) & (cells < 95).all(1)
            np.testing.assert_array_equal(floor[cells[ok, 1], cells[ok, 0]], expected)
        assert floor.mean() > 0.15


def test_furniture_hides_the_wall_and_walls_differ(
    drawn: list[tuple[Camera, np.ndarray, np.ndarray]],
) -> None:
    means = [image.mean((0, 1)) for _, image, _ in drawn]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
    assert min(distances) > 0.004
    lamp = rooms.light(seed=0, subject=1)
    box = rooms.Box((-3.2, -3.0, 0.6), (0.6, 0.6, 1.2), 0.4, (1.0, 0.0, 1.0), "plain")
    camera = drawn[0][0]
    image, floor = rooms.render_room(camera, (box,), lamp, seed=0)
    empty, _ = rooms.render_room(camera, (), lamp, seed=0)
    column, row = np.rint(project(camera, np.array(box.centre))[0]).astype(int)
    assert image[row, column, 1] == 0
    assert floor[row, column] == 0
    # Where the rays miss the box's rectangle and its shadow on the floor, nothing changes.
    upper = slice(0, row - 25)
    np.testing.assert_array_equal(image[upper], empty[upper])


def test_chair_stands_on_the_floor_under_its_seat() -> None:
    place = np.array([0.4, -0.2])
    chair = rooms.chair(place_m=place, yaw=0.7, seat_m=0.45, back=True, colour=(0.4, 0.3, 0.2))
    assert chair.points_m[:, 2].min() == pytest.approx(0)
    assert chair.points_m[:, 2].max() == pytest.approx(0.92)
    assert np.hypot(*(chair.points_m[:, :2] - place).T).max() < 0.31
    # Every normal belongs to its face.
    corners = chair.points_m[chair.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    cosines = np.abs((across * chair.normals[chair.faces[:, 0]]).sum(1))
    np.testing.assert_allclose(cosines, 1, atol=1e-9)


def test_gain_is_one_within_a_seventh() -> None:
    gains = np.array([rooms.exposure(seed=0, subject=s, camera=c) for s in SUBJECTS for c in range(4)])
    assert 0.8 < gains.min() < 0.97
    assert 1.03 < gains.max() < 1.2
