"""Drawing: skeletons, bodies, overlays, and PNG files that repeat to the byte.

Nothing here touches pyplot: a figure is an object of its own, drawn by Agg, without a window.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from geobody.conventions import H36M_PARENTS

MAX_BYTES: Final = 300_000
"""Figures are committed to Git, so each stays under this size."""

RIGHT, LEFT, MIDDLE = "#d1495b", "#00798c", "#4a4a4a"
"""Colours of a person's right and left limbs and of the trunk."""

SKIN: Final = (0.86, 0.68, 0.58)
"""Colour of a drawn body, RGB in [0, 1]."""


def new_figure(width_in: float, height_in: float, *, dpi: int = 100) -> Figure:
    """An empty figure that draws itself with Agg."""
    figure = Figure(figsize=(width_in, height_in), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def save_png(path: Path, figure: Figure, *, max_bytes: int = MAX_BYTES) -> None:
    """Writes ``figure`` to ``path`` in at most ``max_bytes``: with 256 colours, then smaller, if need be.

    The file carries no date and no version, so that the same picture has the same bytes.
    """
    figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])  # type: ignore[attr-defined]
    data = _png(drawn)
    side = 1.0
    while len(data) > max_bytes and side > 0.1:
        size = (round(drawn.width * side), round(drawn.height * side))
        data = _png(
            drawn.resize(size, Image.Resampling.LANCZOS).quantize(256, dither=Image.Dither.NONE, kmeans=1)
        )
        side *= 0.9
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def image_grid(figure: Figure, rows: int, columns: int, *, top: float = 0.95, left: float = 0.01) -> NDArray:
    """Axes (rows, columns) without ticks, nearly touching, with room for titles above ``top``."""
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(left=left, right=0.99, bottom=0.01, top=top, wspace=0.04, hspace=0.06)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return axes


def draw_image(axes: Axes, image: NDArray, *, title: str = "") -> None:
    """Shows an RGB or grey image, uint8 or float in [0, 1], one pixel centre per integer."""
    axes.imshow(
        image, cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1, interpolation="nearest"
    )
    if title:
        axes.set_title(title, fontsize=7, pad=2)


def draw_skeleton(
    axes: Axes,
    points: NDArray,
    *,
    parents: Sequence[int] = H36M_PARENTS,
    sides: Sequence[int] | None = None,
    turn_deg: float = 0.0,
    half_width: float = 1000.0,
    centre_root: bool = True,
    alpha: float = 1.0,
    style: str = "-",
) -> None:
    """Draws joints (J,3) orthographically as a camera sees them (x right, y down, z away).

    ``turn_deg`` turns the scene about the vertical axis first: 90 shows the person from the side.
    ``sides`` (J,) is -1 for right, 1 for left, 0 for the middle; default Human3.6M's. The
    window is a square of ``half_width`` around the root, or around the origin.
    """
    if sides is None:
        sides = [0, -1, -1, -1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, -1, -1, -1]
    seen = turned(points - points[0] if centre_root else points, turn_deg)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            color = {-1: RIGHT, 0: MIDDLE, 1: LEFT}[int(sides[joint])]
            axes.plot(*seen[[parent, joint], :2].T, style, color=color, alpha=alpha, linewidth=1.3)
    square(axes, half_width)


def square(axes: Axes, half_width: float) -> None:
    """A square window around the origin with y downwards, as in an image."""
    axes.set_xlim(-half_width, half_width)
    axes.set_ylim(half_width, -half_width)
    axes.set_aspect("equal")


def turned(points: NDArray, turn_deg: float) -> NDArray:
    """Points (...,3) of a camera frame, turned about its vertical (y) axis through the origin."""
    c, s = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    return points @ np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]).T


def draw_body(
    vertices: NDArray,
    faces: NDArray,
    *,
    focal_px: float,
    size_px: int,
    image: NDArray | None = None,
    opacity: float = 1.0,
    oversampling: int = 3,
) -> NDArray[np.uint8]:
    """An RGB image (S,S,3) of a shaded mesh over ``image`` (uint8, any square size) or over white.

    ``vertices`` (V,3) in the crop camera's frame, any unit; ``focal_px`` for an image of
    ``size_px``, principal point in its middle. Faces are painted from back to front with the
    light at the camera, on a finer grid that is then averaged.
    """
    fine = size_px * oversampling
    ground = np.full((1, 1, 3), 255, dtype=np.uint8) if image is None else image
    base = cv2.resize(ground, (fine, fine), interpolation=cv2.INTER_LINEAR)
    depth = np.maximum(vertices[:, 2:], 1e-6)
    px = (focal_px * vertices[:, :2] / depth + size_px / 2) * oversampling - 0.5
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    centres = corners.mean(axis=1)
    towards = -(normals * centres).sum(axis=1) / np.linalg.norm(centres, axis=1)

    painted = base.copy()
    shade = np.clip(0.30 + 0.70 * towards, 0, 1)
    colors = np.rint(255 * shade[:, None] * np.array(SKIN))
    polygons = np.rint(px[faces] * 16).astype(np.int32)  # cv2 takes fixed point with 4 fractional bits
    front = np.flatnonzero((towards > 0) & (corners[..., 2] > 1e-6).all(axis=1))
    for face in front[np.argsort(-centres[front, 2], kind="stable")]:
        cv2.fillConvexPoly(painted, polygons[face], colors[face].tolist(), lineType=cv2.LINE_8, shift=4)
    mixed = cv2.addWeighted(painted, opacity, base, 1 - opacity, 0)
    return cv2.resize(mixed, (size_px, size_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
