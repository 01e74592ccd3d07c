"""A shaded body over the image that it was found in."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from geobody.geometry.cameras import Camera
from geobody.render.scene import FAR_M, SUPERSAMPLING, rasterise, vertex_normals

COLOUR: Final = (0.55, 0.72, 0.92)
"""RGB in [0,1]: a blue that neither skin nor cloth has often."""
OPACITY: Final = 0.75
AMBIENT: Final = 0.35
NEAREST_M: Final = 0.1


def draw_over(
    image: NDArray[np.uint8], *, camera: Camera, vertices_m: NDArray, faces: NDArray, opacity: float = OPACITY
) -> NDArray[np.uint8]:
    """A copy of ``image`` (H,W,3) uint8 RGB with the body over it, the light at the camera.

    ``vertices_m`` (V,3) in the camera's frame, ``faces`` (F,3) oriented outwards. Outside the image, or behind
    the camera, nothing is drawn.
    """
    vertices_m = np.asarray(vertices_m, np.float64)
    out = image.copy()
    if vertices_m[:, 2].min() <= NEAREST_M:
        return out
    px = camera.project_camera(vertices_m)
    low = np.maximum(np.floor(px.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(px.max(0)).astype(int) + 2, (camera.width_px, camera.height_px))
    if (high <= low).any():
        return out
    towards = -vertices_m / np.linalg.norm(vertices_m, axis=1, keepdims=True)
    facing = (vertex_normals(vertices_m, faces) * towards).sum(1)
    width, height = (int(side) for side in high - low)
    shade, depth = rasterise(
        (px - low + 0.5) * SUPERSAMPLING - 0.5,
        vertices_m[:, 2],
        np.ascontiguousarray(faces, np.uint32),
        (AMBIENT + (1 - AMBIENT) * np.maximum(facing, 0))[:, None],
        width=SUPERSAMPLING * width,
        height=SUPERSAMPLING * height,
    )
    covered = (depth < FAR_M).astype(np.float64)
    drawn = np.dstack([shade * covered[..., None] * COLOUR, covered])
    small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    mixed = out[box] * (1 - opacity * small[..., 3:]) + 255 * opacity * small[..., :3]
    out[box] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return out
