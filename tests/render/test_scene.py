"""The rasteriser, shadows, occlusion and the sensor, against geometry worked out by hand or by OpenCV."""

import cv2
import numpy as np
import pytest

from geobody.geometry.cameras import Camera
from geobody.render import scene

SIZE = 96
LIGHT = scene.Light(direction=np.array([0.0, 0.0, 1.0]), ambient=0.5, diffuse=0.5)


def camera_at(centre_m: tuple[float, float, float], target_m: tuple[float, float, float]) -> Camera:
    forward = np.array(target_m) - np.array(centre_m)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    return Camera(
        R_world_to_cam=np.stack([right, np.cross(forward, right), forward]),
        centre_world_mm=np.array(centre_m) * 1000,
        focal_px=np.array([110.0, 111.0]),
        principal_px=np.array([47.0, 48.5]),
        width_px=SIZE,
        height_px=SIZE,
    )


def opencv_px(camera: Camera, points_m: np.ndarray) -> np.ndarray:
    K = np.array([[camera.focal_px[0], 0, camera.principal_px[0]],
                  [0, camera.focal_px[1], camera.principal_px[1]], [0, 0, 1]])  # fmt: skip
    R = camera.R_world_to_cam
    t = -R @ camera.centre_world_mm / 1000
    return cv2.projectPoints(points_m.reshape(-1, 1, 3), cv2.Rodrigues(R)[0], t, K, None)[0][:, 0]


def sphere(centre: tuple[float, float, float], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed sphere, faces oriented outwards: vertices (V,3) and faces (F,3) uint32."""
    n_rings, n_around = 16, 24
    lat = np.linspace(-np.pi / 2, np.pi / 2, n_rings)
    lon = np.arange(n_around) * 2 * np.pi / n_around
    a, b = np.meshgrid(lat, lon, indexing="ij")
    points = np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], -1).reshape(-1, 3)
    faces = []
    for i in range(n_rings - 1):
        for j in range(n_around):
            p, q = i * n_around + j, i * n_around + (j + 1) % n_around
            faces += [[p, q, p + n_around], [q, q + n_around, p + n_around]]
    return points * radius + np.array(centre), np.array(faces, np.uint32)


def draw(camera: Camera, vertices: np.ndarray, faces: np.ndarray, *, depth: np.ndarray | None = None):
    far = np.full((2 * SIZE, 2 * SIZE), scene.FAR_M, np.float32) if depth is None else depth
    backdrop = scene.Backdrop(
        np.full((SIZE, SIZE, 3), 0.5, np.float32), np.ones((SIZE, SIZE), np.float32), far
    )
    return scene.draw_body(
        backdrop=backdrop,
        camera=camera,
        light=LIGHT,
        shadow=np.zeros((225, 225), np.float32),
        shadow_strength=0.5,
        vertices_m=vertices,
        normals=scene.vertex_normals(vertices, faces),
        faces=faces,
        template=vertices,
        albedo=lambda points: np.where(points[:, 2:] > 1.0, (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    )


def test_project_is_opencv_project_points() -> None:
    camera = camera_at((3.0, -2.0, 1.4), (0.2, 0.1, 0.9))
    points = np.random.default_rng(0).uniform(-1, 1, (40, 3))
    px, depths = scene.project(camera, points)
    np.testing.assert_allclose(px, opencv_px(camera, points), atol=1e-9)
    np.testing.assert_allclose(
        depths, (points - camera.centre_world_mm / 1000) @ camera.R_world_to_cam[2], atol=1e-12
    )


def test_rasterise_interpolates_and_keeps_the_nearest() -> None:
    points = np.array([[-1, -1], [40, -1], [-1, 40], [-1, -1], [40, -1], [-1, 40]], float)
    depths = np.array([2.0, 2, 2, 1, 1, 1])
    # The nearer triangle comes first in the list, so the order of drawing cannot decide.
    faces = np.array([[3, 4, 5], [0, 1, 2]], np.uint32)
    channels = np.column_stack([points[:, 0], np.array([5.0, 5, 5, 7, 7, 7])])
    drawn, depth = scene.rasterise(points, depths, faces, channels, width=20, height=16, cull=False)
    assert drawn.shape == (16, 20, 2)
    inside = np.add.outer(np.arange(16), np.arange(20)) < 38
    np.testing.assert_allclose(depth[inside], 1.0)
    np.testing.assert_allclose(drawn[inside, 1], 7.0)
    np.testing.assert_allclose(drawn[..., 0], np.tile(np.arange(20.0), (16, 1)), atol=1e-9)


def test_empty_pixels_are_far() -> None:
    triangle = np.array([[1, 1], [4, 1], [1, 4]], float)
    _, depth = scene.rasterise(
        triangle, np.ones(3), np.array([[0, 1, 2]], np.uint32), np.ones((3, 1)), width=9, height=9, cull=False
    )
    assert depth[8, 8] == scene.FAR_M
    assert depth[2, 2] == 1.0


def test_normals_of_a_sphere_point_away_from_its_centre() -> None:
    vertices, faces = sphere((0.3, -0.2, 1.0), 0.4)
    radial = (vertices - np.array([0.3, -0.2, 1.0])) / 0.4
    # Poles are rings of coincident points; away from them every vertex has its whole fan.
    body = np.abs(radial[:, 2]) < 0.95
    normals = scene.vertex_normals(np.stack([vertices, vertices]), faces)
    assert normals.shape == (2, len(vertices), 3)
    assert ((normals[1] * radial).sum(-1)[body] > 0.995).all()


def test_coverage_is_the_projected_body() -> None:
    camera = camera_at((3.0, 0.5, 1.5), (0.0, 0.0, 1.0))
    vertices, faces = sphere((0.0, 0.1, 1.0), 0.5)
    _, coverage = draw(camera, vertices, faces)
    expected = np.zeros((SIZE, SIZE), np.uint8)
    hull = cv2.convexHull(opencv_px(camera, vertices).astype(np.float32))
    cv2.fillConvexPoly(expected, np.rint(hull).astype(np.int32), 1)
    core, ring = cv2.erode(expected, np.ones((3, 3))) > 0, cv2.dilate(expected, np.ones((3, 3))) > 0
    assert core.sum() > 300
    assert (coverage[core] == 1).all()
    assert (coverage[~ring] == 0).all()


def test_colours_follow_the_template_and_the_background_stays() -> None:
    camera = camera_at((3.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    vertices, faces = sphere((0.0, 0.0, 1.0), 0.5)
    image, coverage = draw(camera, vertices, faces)
    upper, lower = scene.project(camera, np.array([[0.4, 0, 1.2], [0.4, 0, 0.8]]))[0].round().astype(int)
    assert image[upper[1], upper[0], 0] > 0.4 > image[upper[1], upper[0], 2]
    assert image[lower[1], lower[0], 2] > 0.3 > image[lower[1], lower[0], 0]
    np.testing.assert_array_equal(image[coverage == 0], 0.5)


def test_what_stands_before_the_body_hides_it() -> None:
    camera = camera_at((3.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    vertices, faces = sphere((0.0, 0.0, 1.0), 0.5)
    _, whole = draw(camera, vertices, faces)
    depth = np.full((2 * SIZE, 2 * SIZE), scene.FAR_M, np.float32)
    depth[:, : 2 * 40] = 1.0
    _, part = draw(camera, vertices, faces, depth=depth)
    assert whole[:, :40].sum() > 0
    assert part[:, :40].sum() == 0
    np.testing.assert_array_equal(part[:, 40:], whole[:, 40:])
    behind = np.where(depth == 1.0, np.float32(9.0), depth)
    np.testing.assert_array_equal(draw(camera, vertices, faces, depth=behind)[1], whole)


def test_a_body_out_of_the_picture_leaves_it_alone() -> None:
    camera = camera_at((3.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    vertices, faces = sphere((0.0, 4.0, 1.0), 0.5)
    image, coverage = draw(camera, vertices, faces)
    assert coverage.sum() == 0
    np.testing.assert_array_equal(image, 0.5)


def test_shadow_falls_where_the_light_says() -> None:
    slanted = np.array([1.0, 0.0, 1.0]) / np.sqrt(2)
    light = scene.Light(direction=slanted, ambient=0.5, diffuse=0.5)
    vertices, faces = sphere((0.5, 0.3, 1.0), 0.3)
    shadow = scene.floor_shadow(vertices, faces, light, None)
    rows, columns = np.indices(shadow.shape)
    x = (shadow * columns).sum() / shadow.sum() * scene.SHADOW_CELL_M - scene.SHADOW_HALF_SIDE_M
    y = (shadow * rows).sum() / shadow.sum() * scene.SHADOW_CELL_M - scene.SHADOW_HALF_SIDE_M
    assert (x, y) == pytest.approx((0.5 - 1.0, 0.3), abs=0.02)
    # The light comes down at 45 degrees: the shadow is an ellipse of area pi r (r sqrt 2).
    assert shadow.sum() * scene.SHADOW_CELL_M**2 == pytest.approx(np.pi * 0.09 * np.sqrt(2), rel=0.05)


def test_shadow_appears_at_its_place_in_the_picture() -> None:
    camera = camera_at((3.0, -2.0, 1.6), (0.0, 0.0, 0.5))
    place = np.array([[0.4, -0.3, 0.0]])
    shadow = np.zeros((225, 225), np.float32)
    column, row = np.rint((place[0, :2] + scene.SHADOW_HALF_SIDE_M) / scene.SHADOW_CELL_M).astype(int)
    shadow[row - 1 : row + 2, column - 1 : column + 2] = 1
    seen = scene.shadow_in_view(shadow, camera)
    rows, columns = np.indices(seen.shape)
    centroid = [(seen * columns).sum() / seen.sum(), (seen * rows).sum() / seen.sum()]
    np.testing.assert_allclose(centroid, opencv_px(camera, place)[0], atol=0.5)


def test_prop_has_its_depth_and_hides_the_floor() -> None:
    camera = camera_at((3.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    square = np.array([[0.5, -0.3, 0.7], [0.5, 0.3, 0.7], [0.5, 0.3, 1.3], [0.5, -0.3, 1.3]])
    prop = scene.Prop(
        square, np.array([[0, 1, 2], [0, 2, 3]], np.uint32), np.ones((4, 3)), np.tile([1.0, 0, 0], (4, 1))
    )
    picture = np.full((SIZE, SIZE, 3), 0.2, np.float32)
    backdrop = scene.with_prop(picture, np.ones((SIZE, SIZE), np.float32), prop, camera, LIGHT)
    column, row = scene.project(camera, np.array([[0.5, 0.0, 1.0]]))[0][0].round().astype(int)
    assert backdrop.depth_m[2 * row, 2 * column] == pytest.approx(2.5, abs=1e-5)
    assert backdrop.floor[row, column] == 0
    assert backdrop.floor[2, 2] == 1
    np.testing.assert_allclose(backdrop.image[row, column], 0.5 * 0.88, atol=1e-5)


def test_sensor_adds_the_noise_it_is_told_and_never_wraps() -> None:
    mid = np.full((200, 200, 3), 0.5, np.float32)
    quiet = scene.sensor(mid, gain=np.ones(3), noise_std=0.0, rng=np.random.default_rng(0))
    assert (quiet == 128).all()
    noisy = scene.sensor(mid, gain=np.ones(3), noise_std=4.0, rng=np.random.default_rng(0))
    assert np.std(noisy.astype(float)) == pytest.approx(4.0, rel=0.03)
    np.testing.assert_array_equal(
        noisy, scene.sensor(mid, gain=np.ones(3), noise_std=4.0, rng=np.random.default_rng(0))
    )
    bright = scene.sensor(6 * mid, gain=np.ones(3), noise_std=4.0, rng=np.random.default_rng(0))
    # At white the noise is 1.5 times that at mid grey; six deviations below white is still light.
    assert bright.min() > 255 - 6 * 1.5 * 4.0
