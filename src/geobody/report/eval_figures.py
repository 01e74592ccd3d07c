"""The pictures of stage ``eval``: poses, novel views, bodies, errors, on images chosen by direction."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from geobody.conventions import H36M_JOINTS
from geobody.data.crops import CropShards
from geobody.metrics import joint_errors
from geobody.predictions import Predictions
from geobody.report.figures import (
    draw_body,
    draw_image,
    draw_skeleton,
    image_grid,
    new_figure,
    save_png,
    turned,
)

DIRECTIONS: Final = 12
TILE_PX: Final = 160
MAX_BYTES_OF_BODIES: Final = 560_000
BLOCK_GAP: Final = 0.14
"""Inches between blocks of pictures, for the titles of the lower one."""

CURVES: Final = {
    "mean pose": ("joints_mean_pose_mm", "#999999"),
    "CNN, S1": ("joints_cnn_s1_mm", "#d1495b"),
    "pose head": ("joints_pred_mm", "#00798c"),
    "body": ("smpl_joints_pred_mm", "#edae49"),
    "CNN, all labels": ("joints_cnn_all_mm", "#4a4a4a"),
}


def heading_deg(joints: NDArray) -> NDArray[np.float64]:
    """Directions (N,), degrees in [0,360), in which people with joints (N,17,3) of a crop frame face.

    0 to the camera, 90 to the image's right, 180 away: from the hips, the shoulders, and the spine.
    """
    across = (joints[:, 4] - joints[:, 1]) + (joints[:, 11] - joints[:, 14])
    up = joints[:, 8] - joints[:, 0]
    forward = np.cross(across, up)
    return np.degrees(np.arctan2(forward[:, 0], -forward[:, 2])) % 360


def rows_by_direction(
    joints: NDArray, subjects: NDArray, allowed: NDArray, *, turn: int = 0
) -> NDArray[np.int64]:
    """One of ``allowed`` (N,) bool rows for each twelfth of a turn, by rule and not by quality.

    Of those of the direction and of the subject whose turn it is, the one in the middle of the
    list; directions that nobody faces are left out. With another ``turn`` it is another subject's.
    """
    sector = ((heading_deg(joints) + 180 / DIRECTIONS) % 360 // (360 / DIRECTIONS)).astype(int)
    people = np.unique(subjects)
    chosen = []
    for number in range(DIRECTIONS):
        there = allowed & (sector == number)
        wanted = there & (subjects == people[(number + turn) % len(people)])
        rows = np.flatnonzero(wanted if wanted.any() else there)
        if len(rows):
            chosen.append(rows[len(rows) // 2])
    return np.array(chosen, dtype=np.int64)


def skeletons_figure(path: Path, images: NDArray, predicted: NDArray, true: NDArray) -> None:
    """Inputs (N,S,S,3) and joints (N,17,3), mm: from the camera, and from the person's other side."""
    errors = joint_errors(predicted, true, alignment="scale").mean(axis=1)
    figure = new_figure(12.5, 3.6)
    axes = image_grid(figure, 3, len(images), top=0.93, left=0.045)
    for column, image in enumerate(images):
        draw_image(axes[0, column], image, title=f"N-MPJPE {errors[column]:.0f} mm")
        for line, turn in ((1, 0.0), (2, 90.0)):
            draw_skeleton(axes[line, column], true[column], turn_deg=turn, alpha=0.35)
            draw_skeleton(axes[line, column], predicted[column], turn_deg=turn)
    for line, title in enumerate(("input", "from the camera", "from the side")):
        axes[line, 0].set_ylabel(title, fontsize=7)
    axes[1, 0].set_xlabel("pale: true", fontsize=6, labelpad=1)
    save_png(path, figure)


def novel_views_figure(path: Path, *, inputs: NDArray, drawn: NDArray | None, true: NDArray) -> None:
    """Inputs (N,S,S,3) uint8; views (N,C,S,S,3) in [0,1] drawn from them; the true ones, uint8.

    ``drawn`` is None for an arm that does not draw: then the true views alone stand below the inputs.
    """
    lines: list[tuple[str, NDArray]] = [("input", inputs)]
    for view in range(true.shape[1]):
        if drawn is not None:
            lines.append((f"view {view + 1}\nsynthesised", np.clip(drawn[:, view], 0, 1)))
        lines.append((f"view {view + 1}\ntrue", true[:, view]))
    figure = new_figure(0.9 * len(inputs) + 0.5, 0.9 * len(lines) + 0.2)
    axes = image_grid(figure, len(lines), len(inputs), top=0.985, left=0.06)
    for line, (title, pictures) in enumerate(lines):
        axes[line, 0].set_ylabel(title, fontsize=7)
        for column, picture in enumerate(pictures):
            draw_image(axes[line, column], picture)
    save_png(path, figure)


def bodies_figure(
    path: Path,
    *,
    shards: CropShards,
    rows: NDArray[np.int64],
    faces: NDArray,
    predicted: NDArray,
    true: NDArray | None,
    errors_mm: NDArray | None,
    title: str = "",
) -> None:
    """For crops ``rows``: input, predicted body over it, from the input view and from the side, true body.

    ``predicted`` and ``true`` are vertices (N,V,3), mm, root-centred in the crop frame. Twelve stand side by
    side, the next twelve below them; ``title`` stands above all.
    """
    titles = ["input", "overlay", "body", "from the side"] + ([] if true is None else ["true", "true, side"])
    blocks = -(-len(rows) // DIRECTIONS)
    head = 0.42 if title else 0.22
    gaps = BLOCK_GAP * (blocks - 1)  # titles of a block would touch the one above
    height = 1.04 * len(titles) * blocks + head + gaps - 0.07
    figure = new_figure(12.5, height)
    grid = image_grid(
        figure, len(titles) * blocks, min(DIRECTIONS, len(rows)), top=1 - (head + gaps) / height, left=0.045
    )
    figure.text(0.5, 1 - 0.04 / height, title, ha="center", va="top", fontsize=9)
    axes = grid.reshape(blocks, len(titles), -1)
    for block in range(blocks - 1):
        for axis in axes[block].flat:
            place = axis.get_position()
            axis.set_position(place.translated(0, BLOCK_GAP * (blocks - 1 - block) / height))
    for number, row in enumerate(rows):
        block, column = divmod(number, DIRECTIONS)
        image = np.asarray(shards.images[row])
        focal = float(shards.table["focal_px"][row]) * TILE_PX / shards.crop_size_px
        root = shards.root_crop_mm(row)

        def body(vertices: NDArray, turn: float = 0.0, over: NDArray | None = None) -> NDArray[np.uint8]:
            placed = turned(vertices, turn) + root  # noqa: B023 (called at once)
            opacity = 1.0 if over is None else 0.75
            return draw_body(placed, faces, focal_px=focal, size_px=TILE_PX, image=over, opacity=opacity)  # noqa: B023

        large = cv2.resize(image, (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
        tiles = [
            large,
            body(predicted[number], over=large),
            body(predicted[number]),
            body(predicted[number], 90.0),
        ]
        if true is not None:
            tiles += [body(true[number]), body(true[number], 90.0)]
        for line, tile in enumerate(tiles):
            draw_image(axes[block, line, column], tile)
        if errors_mm is not None:
            axes[block, 0, column].set_title(f"PVE {errors_mm[number]:.0f} mm", fontsize=7, pad=2)
    for line, name in enumerate(titles):
        for block in range(blocks):
            axes[block, line, 0].set_ylabel(name, fontsize=7)
    save_png(path, figure, max_bytes=MAX_BYTES_OF_BODIES)


def turned_figure(path: Path, *, inputs: NDArray, drawn: NDArray | None, angles_deg: NDArray) -> None:
    """Inputs (N,S,S,3) uint8 and (N,A,S,S,3) in [0,1]: the person drawn from the input, turned by each angle.

    ``drawn`` is None for an arm that does not draw: then the inputs stand alone.
    """
    lines: list[tuple[str, NDArray]] = [("input", inputs)]
    if drawn is not None:
        lines += [(f"{angle:.0f}°", np.clip(drawn[:, k], 0, 1)) for k, angle in enumerate(angles_deg)]
    figure = new_figure(0.9 * len(lines) + 0.1, 0.9 * len(inputs) + 0.25)
    axes = image_grid(figure, len(inputs), len(lines), top=1 - 0.22 / (0.9 * len(inputs) + 0.25), left=0.01)
    for column, (title, pictures) in enumerate(lines):
        for line, picture in enumerate(pictures):
            draw_image(axes[line, column], picture, title="" if line else title)
    save_png(path, figure)


def neighbours_figure(path: Path, *, images: NDArray, neighbours: NDArray[np.int64], titles: NDArray) -> None:
    """Rows of images: ``neighbours`` (N,K) are rows of ``images``, the query first; ``titles`` (N,K) of strings."""
    figure = new_figure(0.9 * len(neighbours) + 0.6, 0.9 * neighbours.shape[1] + 0.6)
    axes = image_grid(figure, neighbours.shape[1], len(neighbours), top=0.93, left=0.06)
    figure.subplots_adjust(hspace=0.2)
    figure.suptitle(
        "Nearest images of other cameras, by L_3D of encdec turned into the world", fontsize=8, y=0.99
    )
    for column, (rows, names) in enumerate(zip(neighbours, titles, strict=True)):
        for line, (row, name) in enumerate(zip(rows, names, strict=True)):
            draw_image(axes[line, column], np.asarray(images[row]), title=str(name))
    for line in range(neighbours.shape[1]):
        axes[line, 0].set_ylabel("input" if line == 0 else f"nearest {line}", fontsize=6)
    save_png(path, figure)


def errors_figure(path: Path, metrics: Mapping[str, Any], predictions: Predictions) -> None:
    """N-MPJPE by action, MPJPE by joint, and PCK over the threshold."""
    figure = new_figure(12, 3.6)
    by_action, by_joint, curve = figure.subplots(1, 3, width_ratios=(1.25, 1.25, 1))
    figure.subplots_adjust(left=0.045, right=0.99, bottom=0.26, top=0.85, wspace=0.17)
    sections = {
        "CNN, S1": metrics["controls"]["cnn_s1"],
        "pose head": metrics["pose"],
        "body": metrics["smpl"],
        "CNN, all labels": metrics["controls"]["cnn_all"],
    }
    actions = list(metrics["pose"]["by_action"])
    _bars(
        by_action,
        actions,
        {k: [s["by_action"][a]["n_mpjpe_17_mm"] for a in actions] for k, s in sections.items()},
        title="N-MPJPE by action, 17 joints, mm",
    )
    names = list(H36M_JOINTS[1:])
    _bars(
        by_joint,
        [name.replace("_", " ") for name in names],
        {k: [s["by_joint_mpjpe_mm"][name] for name in names] for k, s in sections.items()},
        title="MPJPE by joint, mm",
    )
    thresholds = np.arange(0, 301, 5)
    true = predictions.joints("joints_true_mm")
    for name, (column, color) in CURVES.items():
        errors = joint_errors(predictions.joints(column), true)[:, 1:]
        share = [100 * float((errors <= t).mean()) for t in thresholds]
        curve.plot(thresholds, share, color=color, label=name, linewidth=1.4)
    curve.axvline(150, color="#cccccc", linewidth=0.8, zorder=0)
    curve.set_title("PCK: joints within a distance, 16 joints, %", fontsize=9)
    curve.set_xlabel("mm", fontsize=8)
    curve.set_xlim(0, 300)
    curve.set_ylim(0, 100)
    curve.tick_params(labelsize=7)
    figure.legend(
        *curve.get_legend_handles_labels(), ncol=len(CURVES), fontsize=8, frameon=False, loc="upper center"
    )
    save_png(path, figure)


def _bars(axes: Axes, labels: list[str], series: Mapping[str, list[float]], *, title: str) -> None:
    places = np.arange(len(labels))
    width = 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        axes.bar(
            places + (number - (len(series) - 1) / 2) * width,
            values,
            width,
            color=CURVES[name][1],
            label=name,
        )
    axes.set_xticks(places, labels, rotation=60, ha="right", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(x=0.01)
    axes.set_title(title, fontsize=9)
