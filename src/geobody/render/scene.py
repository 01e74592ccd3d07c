"""RGB pictures of one dressed body in a room: rasterise, shade per pixel, composite, add noise.

The rasteriser is DEODR's, run without anti-aliasing and with arbitrary channels per vertex, on the
bounding box of the body at twice the resolution; averaging 2x2 pixels gives soft silhouettes.
Colours are RGB in [0, 1] before the sensor. Pixels follow ``geobody.conventions``: integer
coordinates are pixel centres.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from deodr.differentiable_renderer import Scene2DBase, renderScene

from geobody.conventions import MM_PER_M
from geobody.geometry.cameras import Camera

SUPERSAMPLING: Final = 2
FAR_M: Final = 1e6
SHADOW_CELL_M: Final = 0.025
SHADOW_HALF_SIDE_M: Final = 2.8
SHADOW_BLUR_CELLS: Final = 2.2


@dataclass(frozen=True)
class Light:
    """One directional light and an ambient term that is stronger from above.

    ``direction`` is the unit vector from the floor towards the light, in the world.
    """

    direction: np.ndarray
    ambient: float
    diffuse: float

    def shade(self, normals: np.ndarray) -> np.ndarray:
        """Brightness (N,) of unit normals (N,3) in the world, Lambert's law plus ambient."""
        sky = 0.88 + 0.12 * normals[:, 2]
        return self.ambient * sky + self.diffuse * np.maximum(normals @ self.direction, 0)


@dataclass(frozen=True)
class Prop:
    """A rigid thing of flat-coloured triangles: points (P,3) m, faces (Q,3), colours and normals (P,3)."""

    points_m: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True)
class Backdrop:
    """What stands still behind (or before) the body in one camera: all that a frame does not change.

    image (H,W,3) float32; floor (H,W) float32 in [0,1], where shadows may fall; depth_m
    (2H,2W) float32, the depth of props, ``FAR_M`` where there are none.
    """

    image: np.ndarray
    floor: np.ndarray
    depth_m: np.ndarray


def project(camera: Camera, points_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (..., 2) and depths (...) in metres of world points (..., 3) in metres."""
    in_camera = camera.to_camera(points_m * MM_PER_M)
    return camera.project_camera(in_camera), in_camera[..., 2] / MM_PER_M


def floor_to_px(camera: Camera) -> np.ndarray:
    """Homography (3,3) from floor coordinates (X, Y, 1) in metres to homogeneous pixels."""
    K = np.diag([*camera.focal_px, 1.0])
    K[:2, 2] = camera.principal_px
    R = camera.R_world_to_cam
    return K @ np.column_stack([R[:, 0], R[:, 1], -R @ camera.centre_world_mm / MM_PER_M])


def rasterise(
    points_px: np.ndarray,
    depths: np.ndarray,
    faces: np.ndarray,
    channels: np.ndarray,
    *,
    width: int,
    height: int,
    cull: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest surface per pixel: channels (H,W,C) float64, and depth (H,W), ``FAR_M`` where empty.

    ``points_px`` (V,2), ``depths`` (V,), ``faces`` (F,3) uint32, ``channels`` (V,C), interpolated
    linearly over a face in the image. With ``cull`` only faces that wind clockwise in the image
    (y down) as seen from outside are drawn: faces oriented outwards.
    """
    n_faces = len(faces)
    no_flags = np.zeros(n_faces, bool)
    scene = Scene2DBase(
        faces=faces,
        faces_uv=faces,
        ij=points_px,
        depths=depths,
        textured=no_flags,
        uv=np.zeros((len(points_px), 2)),
        shade=np.zeros(len(points_px)),
        colors=np.column_stack([channels, depths]),
        shaded=no_flags,
        edgeflags=np.zeros((n_faces, 3), bool),
        height=height,
        width=width,
        nb_colors=channels.shape[1] + 1,
        texture=np.zeros((0, 0)),
        background_color=np.append(np.zeros(channels.shape[1]), FAR_M),
        backface_culling=cull,
        clockwise=False,
    )
    buffer = np.empty((height, width, scene.nb_colors))
    renderScene(scene, 0.0, buffer, np.empty((height, width)), check_valid=False)
    return buffer[..., :-1], buffer[..., -1]


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (..., V, 3) of ``vertices`` (..., V, 3), faces weighted by their area."""
    corners = vertices[..., faces, :]
    normals = np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    # A sparse sum per vertex is 10 times as fast as np.add.at.
    flat = normals.reshape(-1, len(faces), 3)
    total = np.empty((len(flat), vertices.shape[-2], 3))
    index = faces.ravel()
    for i, n in enumerate(flat):
        for axis in range(3):
            total[i, :, axis] = np.bincount(
                index, weights=np.repeat(n[:, axis], 3), minlength=vertices.shape[-2]
            )
    total /= np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), 1e-12)
    return total.reshape(vertices.shape)


def floor_shadow(points_m: np.ndarray, faces: np.ndarray, light: Light, prop: Prop | None) -> np.ndarray:
    """Soft shadow (S,S) float32 in [0,1] on the floor z = 0, seen from above, cells ``SHADOW_CELL_M``.

    Cell (row, column) is at Y, X = -``SHADOW_HALF_SIDE_M`` + cell * ``SHADOW_CELL_M``.
    """
    side = round(2 * SHADOW_HALF_SIDE_M / SHADOW_CELL_M) + 1
    if prop is not None:
        faces = np.concatenate([faces, prop.faces + np.uint32(len(points_m))])
        points_m = np.concatenate([points_m, prop.points_m])
    on_floor = points_m[:, :2] - points_m[:, 2:] * (light.direction[:2] / light.direction[2])
    cells = (on_floor + SHADOW_HALF_SIDE_M) / SHADOW_CELL_M
    covered, _ = rasterise(
        cells, np.ones(len(cells)), faces, np.ones((len(cells), 1)), width=side, height=side, cull=False
    )
    shadow = covered[..., 0].astype(np.float32)
    soft = cv2.GaussianBlur(shadow, (0, 0), SHADOW_BLUR_CELLS)
    return 0.55 * soft + 0.45 * cv2.GaussianBlur(shadow, (0, 0), 3 * SHADOW_BLUR_CELLS)


def shadow_in_view(shadow: np.ndarray, camera: Camera) -> np.ndarray:
    """The shadow of ``floor_shadow`` as the camera sees it, (H,W) float32; 0 where there is no floor."""
    cell_to_floor = np.array(
        [
            [SHADOW_CELL_M, 0, -SHADOW_HALF_SIDE_M],
            [0, SHADOW_CELL_M, -SHADOW_HALF_SIDE_M],
            [0, 0, 1],
        ]
    )
    homography = floor_to_px(camera) @ cell_to_floor
    return cv2.warpPerspective(
        shadow, homography, (camera.width_px, camera.height_px), flags=cv2.INTER_LINEAR
    )


def with_prop(
    image: np.ndarray, floor: np.ndarray, prop: Prop | None, camera: Camera, light: Light
) -> Backdrop:
    """The still picture of a camera with a prop drawn in, and the prop's depth."""
    s = SUPERSAMPLING
    height, width = image.shape[:2]
    if prop is None:
        return Backdrop(image, floor, np.full((s * height, s * width), FAR_M, np.float32))
    px, depths = project(camera, prop.points_m)
    colours = prop.colours * light.shade(prop.normals)[:, None]
    drawn, depth = rasterise(
        (px + 0.5) * s - 0.5,
        depths,
        prop.faces,
        np.column_stack([colours, np.ones(len(px))]),
        width=s * width,
        height=s * height,
        cull=False,
    )
    small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = small[..., 3:]
    return Backdrop(
        image * (1 - alpha) + small[..., :3], floor * (1 - alpha[..., 0]), depth.astype(np.float32)
    )


def draw_body(
    *,
    backdrop: Backdrop,
    camera: Camera,
    light: Light,
    shadow: np.ndarray,
    shadow_strength: float,
    vertices_m: np.ndarray,
    normals: np.ndarray,
    faces: np.ndarray,
    template: np.ndarray,
    albedo: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H,W,3) float32 RGB in [0,1] and visible share of the body per pixel (H,W) float32.

    ``vertices_m`` and ``normals`` (V,3) in the world, ``faces`` (F,3) uint32 oriented outwards,
    ``template`` (V,3) the point of the dressed T-pose that each vertex carries, ``albedo`` maps
    such points (N,3) to colours (N,3), ``shadow`` (S,S) from ``floor_shadow``.
    """
    height, width = backdrop.image.shape[:2]
    dark = shadow_strength * shadow_in_view(shadow, camera) * backdrop.floor
    image = backdrop.image * (1 - dark)[..., None]
    coverage = np.zeros((height, width), np.float32)

    px, depths = project(camera, vertices_m)
    low = np.maximum(np.floor(px.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(px.max(0)).astype(int) + 2, (width, height))
    if (high <= low).any() or depths.min() <= 0.1:
        return image, coverage
    s = SUPERSAMPLING
    box_w, box_h = high - low
    channels, depth = rasterise(
        (px - low + 0.5) * s - 0.5,
        depths,
        faces,
        np.column_stack([template, normals]),
        width=s * int(box_w),
        height=s * int(box_h),
    )
    front = backdrop.depth_m[s * low[1] : s * high[1], s * low[0] : s * high[0]]
    visible = (depth < FAR_M) & (depth < front)
    seen = channels[visible]
    if len(seen) == 0:
        return image, coverage
    unit = seen[:, 3:] / np.maximum(np.linalg.norm(seen[:, 3:], axis=1, keepdims=True), 1e-9)
    colours = np.zeros((*visible.shape, 4), np.float32)
    colours[visible, :3] = albedo(seen[:, :3]) * light.shade(unit)[:, None]
    colours[visible, 3] = 1
    small = cv2.resize(colours, (int(box_w), int(box_h)), interpolation=cv2.INTER_AREA)
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    coverage[box] = small[..., 3]
    image[box] = image[box] * (1 - small[..., 3:]) + small[..., :3]
    return image, coverage


def sensor(image: np.ndarray, *, gain: np.ndarray, noise_std: float, rng: np.random.Generator) -> np.ndarray:
    """The picture (H,W,3) uint8 that a camera makes of RGB in [0,1]: exposure, a shoulder, noise.

    ``gain`` (3,) multiplies the channels, ``noise_std`` is in grey levels of 255 at mid grey.
    """
    exposed = image * gain.astype(np.float32)
    # Highlights roll off instead of clipping: the curve is the identity below 0.7.
    bright = exposed > 0.7
    exposed[bright] = 1 - 0.3 * np.exp((0.7 - exposed[bright]) / 0.3)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(noise_std) * (np.float32(0.5) + exposed)
    exposed *= 255
    exposed += noise
    return np.clip(np.rint(exposed, out=exposed), 0, 255, out=exposed).astype(np.uint8)
