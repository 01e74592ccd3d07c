"""The picture of stage ``body``: the mean, the first betas, and poses from two sides, joints drawn in."""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection

from geobody.body.evaluation import pose_body
from geobody.body.open_body import OpenBody
from geobody.body.poses import NAMED_POSES_DEG, named_pose
from geobody.conventions import H36M_JOINTS, H36M_PARENTS, N_BETAS
from geobody.report.figures import new_figure, save_png

COLUMNS: Final = 12
SKIN: Final = np.array([0.80, 0.66, 0.58])
LIGHT: Final = np.array([-0.45, 0.55, 0.70])
VIEW_DISTANCE_M: Final = 6.0
SIDE_VIEW_DEG: Final = 70.0


def body_figure(path: Path, body: OpenBody) -> None:
    """Draws the mean and +-2 of each beta in the T-pose, and twelve poses from two sides, to a PNG."""
    size = sorted(body.faces)[len(body.faces) // 2]
    standing = named_pose("standing")
    figure = new_figure(13.5, 9.2)
    axes = figure.subplots(4, COLUMNS)
    figure.subplots_adjust(left=0.0, right=1.0, bottom=0.0, top=0.97, wspace=0.0, hspace=0.08)
    shapes: list[tuple[str, np.ndarray]] = [("mean", np.zeros(N_BETAS)), ("mean, back", np.zeros(N_BETAS))]
    for k in range(N_BETAS):
        shapes += [(f"beta {k + 1}: {sign}2", 2.0 * float(f"{sign}1") * np.eye(N_BETAS)[k]) for sign in "-+"]
    *rest, left, right = axes[:2].flat
    for axis in (left, right):
        axis.set_axis_off()
    for axis, (title, betas) in zip(rest, shapes, strict=True):
        shape = body.space.mean + body.space.directions @ betas
        posed, _ = pose_body(body, shape, standing)
        _draw(axis, body, posed, size, turn_deg=180.0 if "back" in title else 15.0)
        axis.set_title(title, fontsize=9, pad=2)
    for column, name in enumerate(NAMED_POSES_DEG):
        posed, _ = pose_body(body, body.space.mean, named_pose(name))
        for row, turn in ((2, 20.0), (3, -SIDE_VIEW_DEG)):
            _draw(axes[row, column], body, posed, size, turn_deg=turn)
        axes[2, column].set_title(name.replace("_", " "), fontsize=9, pad=2)
    save_png(path, figure)


def _draw(axis: Axes, body: OpenBody, vertices: np.ndarray, size: int, *, turn_deg: float) -> None:
    faces = body.faces[size]
    angle = np.radians(turn_deg)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    joints = body.J_regressor_h36m @ vertices @ turn.T
    points = vertices @ turn.T
    middle = (
        np.array([points[:, 0].min() + points[:, 0].max(), points[:, 1].min() + points[:, 1].max(), 0]) / 2
    )
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # Normals of vertices, averaged over a face: flat facets would hide the shape behind the mesh.
    at_vertex = np.zeros_like(points)
    for i in range(3):
        np.add.at(at_vertex, faces[:, i], normals)
    smooth = at_vertex[faces].mean(1)
    smooth /= np.linalg.norm(smooth, axis=1, keepdims=True) + 1e-12
    diffuse = np.clip(smooth @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)
    rim = 0.25 * (1 - np.abs(smooth[:, 2])) ** 2
    shade = np.clip((0.38 + 0.62 * diffuse - rim)[:, None] * SKIN * 1.12, 0, 1)
    visible = np.flatnonzero(normals[:, 2] > 0)
    order = visible[corners[visible, :, 2].mean(1).argsort()]
    flat = _project(corners[order] - middle)
    axis.add_collection(
        PolyCollection(
            list(flat), facecolors=shade[order], edgecolors=shade[order], linewidths=0.3, clip_on=False
        )
    )
    flat_joints = _project(joints - middle)
    bones = [(flat_joints[p], flat_joints[j]) for j, p in enumerate(H36M_PARENTS) if p >= 0]
    sides = [1 if n.startswith("left") else 2 if n.startswith("right") else 0 for n in H36M_JOINTS]
    colours = np.array(["#30343a", "#1769aa", "#c0392b"])[sides]
    axis.add_collection(
        LineCollection(bones, colors=list(colours[1:]), linewidths=1.1, zorder=3, clip_on=False)
    )
    axis.scatter(
        flat_joints[:, 0], flat_joints[:, 1], s=6, c=list(colours), zorder=4, linewidths=0, clip_on=False
    )
    axis.set_xlim(-0.56, 0.56)
    axis.set_ylim(-1.08, 1.08)
    axis.set_aspect("equal")
    axis.axis("off")


def _project(points: np.ndarray) -> np.ndarray:
    return points[..., :2] * (VIEW_DISTANCE_M / (VIEW_DISTANCE_M - points[..., 2:]))
