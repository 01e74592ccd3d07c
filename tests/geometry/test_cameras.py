import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from geobody.geometry.cameras import (
    Camera,
    VirtualCamera,
    centre_from_translation,
    crop_to_image_homography,
    crop_to_image_map,
    distort,
    look_at,
    project_crop,
    rotation_error,
    undistort,
)

DISTORTION = np.array([-0.21, 0.24, -0.002, -0.0009, -0.0014])
"""k1, k2, k3, p1, p2 of the size that Human3.6M's cameras have."""

coordinate = st.floats(-3000, 3000)
depth = st.floats(500, 9000)


def make_camera(distortion: np.ndarray | None = None) -> Camera:
    return Camera(
        R_world_to_cam=Rotation.from_euler("xyz", [100, 12, -30], degrees=True).as_matrix(),
        centre_world_mm=np.array([1500.0, -4200.0, 1400.0]),
        focal_px=np.array([1145.0, 1143.8]),
        principal_px=np.array([512.5, 515.4]),
        width_px=1000,
        height_px=1002,
        distortion=distortion,
    )


def opencv_pixels(camera: Camera, points_world: np.ndarray) -> np.ndarray:
    K = np.array(
        [
            [camera.focal_px[0], 0, camera.principal_px[0]],
            [0, camera.focal_px[1], camera.principal_px[1]],
            [0, 0, 1],
        ]
    )
    rotation, _ = cv2.Rodrigues(camera.R_world_to_cam)
    t = -camera.R_world_to_cam @ camera.centre_world_mm
    coefficients = np.zeros(5)
    if camera.distortion is not None:
        k1, k2, k3, p1, p2 = camera.distortion
        coefficients = np.array([k1, k2, p1, p2, k3])
    return cv2.projectPoints(points_world, rotation, t, K, coefficients)[0].reshape(-1, 2)


def points_in_view(camera: Camera, n: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    points_cam = np.stack([*rng.uniform(-1200, 1200, (2, n)), rng.uniform(3000, 6000, n)], -1)
    return points_cam @ camera.R_world_to_cam + camera.centre_world_mm


@pytest.mark.parametrize("distortion", [None, DISTORTION])
def test_projection_is_opencvs(distortion):
    camera = make_camera(distortion)
    points = points_in_view(camera)
    np.testing.assert_allclose(camera.project(points), opencv_pixels(camera, points), atol=1e-6)


def test_translation_and_centre_give_the_same_camera():
    camera = make_camera()
    t = np.array([[12.0, -700.0, 4400.0]])
    centre = centre_from_translation(camera.R_world_to_cam, t)
    point = np.array([100.0, 200.0, 300.0])
    np.testing.assert_allclose(
        camera.R_world_to_cam @ (point - centre), camera.R_world_to_cam @ point + t[0], atol=1e-9
    )


@pytest.mark.parametrize("distortion", [None, DISTORTION])
def test_rays_lead_back_to_their_pixels(distortion):
    camera = make_camera(distortion)
    pixels = np.random.default_rng(1).uniform(0, 1000, (40, 2))
    np.testing.assert_allclose(camera.project_camera(camera.rays(pixels) * 3700), pixels, atol=1e-6)


def test_undistort_is_opencvs():
    points = np.random.default_rng(2).uniform(-0.4, 0.4, (30, 2))
    k1, k2, k3, p1, p2 = DISTORTION
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 200, 1e-12)
    expected = cv2.undistortPoints(
        points[:, None], np.eye(3), np.array([k1, k2, p1, p2, k3]), None, None, None, criteria
    )
    np.testing.assert_allclose(undistort(points, DISTORTION), expected[:, 0], atol=1e-7)
    np.testing.assert_allclose(distort(undistort(points, DISTORTION), DISTORTION), points, atol=1e-10)


@given(coordinate, coordinate, depth, st.floats(-np.pi, np.pi))
def test_look_at_is_a_rotation_that_centres_the_point(x, y, z, roll):
    R = look_at([x, y, z], roll_rad=roll)
    assert rotation_error(R) < 1e-12
    turned = R @ [x, y, z]
    np.testing.assert_allclose(turned, [0, 0, np.linalg.norm([x, y, z])], atol=1e-8)


@given(coordinate, coordinate, depth)
def test_look_at_without_roll_keeps_the_horizon(x, y, z):
    """The crop's x axis stays in the plane of the camera's x and z: R_x leaves x alone."""
    R = look_at([x, y, z])
    assert abs(R[0, 1]) < 1e-12
    assert R[1, 1] > 0


def test_roll_turns_the_picture_clockwise():
    """R_z(a) takes x to y, and y points down: what was right of the centre goes below it."""
    R = look_at([0, 0, 1000.0], roll_rad=np.deg2rad(90))
    np.testing.assert_allclose(R @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_rotation_error_finds_reflection_and_scale():
    assert rotation_error(np.eye(3)) == 0
    assert rotation_error(np.diag([1, 1, -1.0])) == pytest.approx(2)
    assert rotation_error(1.01 * np.eye(3)) > 0.02


@given(st.sampled_from([32, 64, 65, 128]), st.floats(800, 12000))
def test_two_metres_at_the_root_fill_the_crop(size, distance):
    """The left edge of the first pixel is at -0.5 and the right edge of the last at size - 0.5."""
    virtual = VirtualCamera(np.eye(3), distance, size)
    corners = [[-1000, -1000, distance], [1000, 1000, distance], [0, 0, distance]]
    pixels = project_crop(corners, focal_px=virtual.focal_px, crop_size_px=size)
    np.testing.assert_allclose(pixels, [[-0.5] * 2, [size - 0.5] * 2, [(size - 1) / 2] * 2], atol=1e-9)


@pytest.mark.parametrize("distortion", [None, DISTORTION])
@pytest.mark.parametrize("samples", [1, 3])
def test_crop_pixels_and_image_pixels_see_the_same_points(distortion, samples):
    """A point's pixel in the crop, sent through the warp, is its pixel in the image by OpenCV."""
    camera = make_camera(distortion)
    root = np.array([300.0, 100.0, 900.0])
    root_cam = camera.to_camera(root)
    virtual = VirtualCamera(look_at(root_cam, roll_rad=0.3), float(np.linalg.norm(root_cam)), 64)
    rng = np.random.default_rng(3)
    points = root + rng.uniform(-500, 500, (30, 3))
    in_crop = camera.to_camera(points) @ virtual.R_cam_to_crop.T
    small = project_crop(in_crop, focal_px=virtual.focal_px, crop_size_px=64)
    big = (small + 0.5) * samples - 0.5
    expected = opencv_pixels(camera, points)
    if distortion is None:
        H = crop_to_image_homography(camera, virtual, oversampling=samples)
        found = np.c_[big, np.ones(30)] @ H.T
        np.testing.assert_allclose(found[:, :2] / found[:, 2:], expected, atol=1e-6)
    seen = crop_to_image_map(camera, virtual, oversampling=samples).astype(np.float32)
    assert seen.shape == (64 * samples, 64 * samples, 2)
    # Bilinear look-up in the table of a smooth map: good to a few thousandths of an image pixel.
    mapped = cv2.remap(seen, big.astype(np.float32)[None], None, cv2.INTER_LINEAR)[0]
    step = np.abs(np.diff(seen[:, :, 0], axis=1)).max()
    assert np.abs(mapped - expected).max() < 0.05 * step


@settings(max_examples=25)
@given(st.floats(-1500, 1500), st.floats(-1500, 1500), st.floats(-180, 180))
def test_root_lands_in_the_exact_middle(x, y, roll_deg):
    camera = make_camera()
    root = np.array([x, y, 900.0])
    root_cam = camera.to_camera(root)
    R = look_at(root_cam, roll_rad=np.deg2rad(roll_deg)) @ camera.R_world_to_cam
    virtual = VirtualCamera(R @ camera.R_world_to_cam.T, float(np.linalg.norm(root_cam)), 64)
    H = crop_to_image_homography(camera, virtual)
    middle = H @ [31.5, 31.5, 1]
    np.testing.assert_allclose(middle[:2] / middle[2], opencv_pixels(camera, root[None])[0], atol=1e-6)
