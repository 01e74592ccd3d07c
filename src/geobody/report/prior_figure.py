"""The picture of stage ``gan_prior``: figures of real, generated and corrupted poses with their scores."""

from pathlib import Path

import numpy as np
import torch
from pytorch3d.transforms import matrix_to_axis_angle
from torch import Tensor

from geobody.conventions import SMPL_JOINTS, SMPL_PARENTS
from geobody.data.kinematics import forward_kinematics
from geobody.models.prior import PosePrior
from geobody.models.prior_training import add_noise, shuffle_joints, spread_sample
from geobody.report.figures import draw_skeleton, image_grid, new_figure, save_png

COLUMNS = 12
_SIDES = tuple(1 if n.startswith("left") else -1 if n.startswith("right") else 0 for n in SMPL_JOINTS)


@torch.no_grad()
def prior_figure(path: Path, prior: PosePrior, body_pose: Tensor, betas: Tensor, *, seed: int) -> None:
    """Draws the first poses of a random order of (N,23,3,3), and fakes made of them, from the front.

    All stand upright and face the reader: the prior knows no root. The number is the score.
    """
    draw = torch.Generator().manual_seed(seed)
    body_pose, betas = spread_sample(body_pose, betas, limit=8 * COLUMNS, seed=seed)
    rows = {
        "unseen": (body_pose, betas),
        "generated": prior.generator.sample(len(betas), draw),
        "shuffled joints": (shuffle_joints(body_pose, draw), betas),
        "20 deg noise": (add_noise(body_pose, draw, rms_deg=20.0), betas),
    }
    figure = new_figure(11, 4.4)
    axes = image_grid(figure, len(rows), COLUMNS, top=0.95, left=0.07)
    for line, (name, (pose, shape)) in zip(axes, rows.items(), strict=True):
        scores = prior.score(pose, shape).cpu().numpy()
        joints = stick_figures(pose[:COLUMNS])
        for axis, points, score in zip(line, joints, scores, strict=False):
            centred = points - (points.max(axis=0) + points.min(axis=0)) / 2
            draw_skeleton(
                axis, centred, parents=SMPL_PARENTS, sides=_SIDES, half_width=1.0, centre_root=False
            )
            axis.set_title(f"{score:.2f}", fontsize=7, pad=1)
        line[0].set_ylabel(f"{name}\nmean {scores.mean():.2f}", fontsize=8)
    save_png(path, figure)


def stick_figures(body_pose: Tensor) -> np.ndarray:
    """Joints (B,24,3) of an average figure that stands before a camera (x right, y down), metres."""
    theta = np.zeros((len(body_pose), len(SMPL_JOINTS), 3))
    theta[:, 1:] = matrix_to_axis_angle(body_pose).cpu().numpy()
    joints, _ = forward_kinematics(theta)
    return joints * np.array([1.0, -1.0, -1.0])
