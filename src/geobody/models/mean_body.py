"""The body that knows nothing of the image: mean shape, one pose, one orientation."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor

from geobody.body.model import BodyModel
from geobody.conventions import H36M_ROOT, MM_PER_M, N_BETAS
from geobody.geometry.rotations import nearest_rotation

YAW_STARTS = 8
ITERATIONS = 100
MIN_DISTANCE_MM = 1e-3

POSE_STEPS = 40
SMOOTH_MM = 1.0
"""Distances below this count as their squares do: a distance has no slope at zero."""
PULL_MM = 60.0
"""All joints turned from the chordal mean by as much as people turn them cost as much as this error."""
LEAST_SPREAD_RAD2 = 1e-3


@dataclass(frozen=True)
class MeanBody:
    """Params of one body, float32.

    betas (10,); body_pose (23,3,3); global_orient (3,3), from the body's frame to the crop's.
    """

    betas: np.ndarray
    body_pose: np.ndarray
    global_orient: np.ndarray


def mean_rotations(axis_angle: np.ndarray) -> np.ndarray:
    """(J,3,3) float64 chordal means of ``axis_angle`` (N,J,3) in radians.

    The rotation nearest to the arithmetic mean of the matrices, by SVD (Hartley et al. 2013,
    Rotation Averaging, section 5.3).
    """
    vectors = torch.from_numpy(np.asarray(axis_angle, dtype=np.float64))
    return nearest_rotation(axis_angle_to_matrix(vectors).mean(0)).numpy()


def fit_orientation(joints_mm: np.ndarray, poses_mm: np.ndarray) -> np.ndarray:
    """(3,3) float64: the rotation of ``joints_mm`` (17,3) with the least mean joint error to ``poses_mm``.

    ``poses_mm`` (N,17,3); all root-centred. Minimises the mean of distances, not of squares, by
    reweighted Kabsch (Weiszfeld's scheme) from several turns about the vertical: where people face
    everywhere there are many minima.
    """
    source = torch.from_numpy(np.asarray(joints_mm, dtype=np.float64))
    target = torch.from_numpy(np.asarray(poses_mm, dtype=np.float64))
    start = _kabsch(source, target, torch.ones(target.shape[:2], dtype=torch.float64))
    best, least = start, float("inf")
    for turn in range(YAW_STARTS):
        angle = 2 * np.pi * turn / YAW_STARTS
        yaw = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0], dtype=torch.float64))
        rotation = yaw @ start
        for _ in range(ITERATIONS):
            distance = (source @ rotation.T - target).norm(dim=-1).clamp_min(MIN_DISTANCE_MM)
            rotation = _kabsch(source, target, 1 / distance)
        error = float((source @ rotation.T - target).norm(dim=-1).mean())
        if error < least:
            best, least = rotation, error
    return best.numpy()


def fit_mean_body(*, body: BodyModel, body_pose: np.ndarray, poses_mm: np.ndarray) -> MeanBody:
    """The one body of mean shape whose joints come nearest to all labelled people at once.

    ``body_pose`` (N,23,3) axis-angle of the prior's training set; ``poses_mm`` (M,17,3) labels,
    root-centred in the crop frame. Betas are 0. Starts from the chordal mean of ``body_pose`` in the
    orientation of ``fit_orientation``; then LBFGS turns root and joints to lessen the mean joint error
    over the labels plus ``PULL_MM`` times the joints' mean squared turn from the chordal mean, each in
    units of that joint's mean squared turn in ``body_pose``: joints that people seldom turn stay as they
    are, and so does what the labels leave open. Deterministic.
    """
    double = copy.deepcopy(body).double()
    rotations = torch.from_numpy(mean_rotations(body_pose))
    each = axis_angle_to_matrix(torch.from_numpy(np.asarray(body_pose, dtype=np.float64)))
    # 3 - trace is the squared angle, for small angles.
    spread = (3 - torch.einsum("jab,jab->j", rotations, each.mean(0))).clamp_min(LEAST_SPREAD_RAD2)
    labels = torch.from_numpy(np.asarray(poses_mm, dtype=np.float64))

    def joints_mm(orientation: Tensor, pose: Tensor) -> Tensor:
        zeros = {"betas": torch.zeros(1, N_BETAS).double(), "transl": torch.zeros(1, 3).double()}
        joints = double(body_pose=pose[None], global_orient=orientation[None], **zeros).joints_h36m[0]
        return MM_PER_M * (joints - joints[H36M_ROOT])

    with torch.no_grad():
        upright = joints_mm(torch.eye(3).double(), rotations).numpy()
    orientation = torch.from_numpy(fit_orientation(upright, poses_mm))
    turns = torch.zeros(1 + len(rotations), 3, dtype=torch.float64, requires_grad=True)

    def turned() -> tuple[Tensor, Tensor]:
        matrices = axis_angle_to_matrix(turns)
        return orientation @ matrices[0], rotations @ matrices[1:]

    def cost() -> Tensor:
        squares = (joints_mm(*turned()) - labels).square().sum(dim=-1)
        error = (squares + SMOOTH_MM**2).sqrt().mean()
        return error + PULL_MM * (turns[1:].square().sum(dim=-1) / spread).mean()

    def closure() -> Tensor:
        turns.grad = None
        value = cost()
        value.backward()
        return value

    optimizer = torch.optim.LBFGS([turns], max_iter=POSE_STEPS, line_search_fn="strong_wolfe")
    optimizer.step(closure)
    with torch.no_grad():
        found, pose = (matrices.numpy().astype(np.float32) for matrices in turned())
    return MeanBody(np.zeros(N_BETAS, np.float32), pose, found)


def _kabsch(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The rotation that minimises sum_nj weight[n,j] |R source[j] - target[n,j]|^2 (no translation)."""
    return nearest_rotation(torch.einsum("nj,njc,jd->cd", weight, target, source))
