"""The body that knows nothing: mean shape, mean pose, one orientation."""

from dataclasses import dataclass

import numpy as np
import torch
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor

from geobody.body.model import BodyModel
from geobody.conventions import H36M_ROOT, MM_PER_M, N_BETAS

YAW_STARTS = 8
ITERATIONS = 100
MIN_DISTANCE_MM = 1e-3


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
    return _nearest_rotation(axis_angle_to_matrix(vectors).mean(0)).numpy()


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
    """The mean body of a set of poses, oriented like labelled people.

    ``body_pose`` (N,23,3) axis-angle of the prior's training set; ``poses_mm`` (M,17,3) labels,
    root-centred in the crop frame.
    """
    rotations = mean_rotations(body_pose)
    betas = np.zeros(N_BETAS)
    dtype = body.v_template.dtype
    with torch.no_grad():
        joints = body(
            betas=torch.from_numpy(betas)[None].to(dtype),
            body_pose=torch.from_numpy(rotations)[None].to(dtype),
            global_orient=torch.eye(3, dtype=dtype)[None],
            transl=torch.zeros(1, 3, dtype=dtype),
        ).joints_h36m[0].double().numpy()  # fmt: skip
    joints_mm = MM_PER_M * (joints - joints[H36M_ROOT])
    orientation = fit_orientation(joints_mm, poses_mm)
    return MeanBody(betas.astype(np.float32), rotations.astype(np.float32), orientation.astype(np.float32))


def _kabsch(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The rotation that minimises sum_nj weight[n,j] |R source[j] - target[n,j]|^2 (no translation)."""
    return _nearest_rotation(torch.einsum("nj,njc,jd->cd", weight, target, source))


def _nearest_rotation(matrix: Tensor) -> Tensor:
    """(...,3,3): the rotation R that maximises trace(R^T matrix)."""
    u, _, vt = torch.linalg.svd(matrix)
    sign = torch.det(u @ vt).sign()
    return u @ torch.diag_embed(torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), -1)) @ vt
