"""Errors of poses, bodies, masks and pictures, each a number per sample: the protocol is the caller's.

Joints are (N,17,3) mm, root first. Every joint metric first moves the root of both poses to the
origin, so that the root's own, unsupervised output counts nowhere. A suffix says what is averaged:
``_17`` all joints, the root included, which is always right in MPJPE; ``_16`` all but the root.
Alignments use all 17 joints in either case. Arithmetic is float64.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from geobody.conventions import H36M_ROOT
from geobody.geometry.alignment import align, best_scale

Array = NDArray[np.float64]

PCK_THRESHOLD_MM = 150.0
PCK_STEP_MM = 5.0

_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2


def root_centred(joints: ArrayLike) -> Array:
    """Joints (...,J,3) with the root at the origin."""
    joints = np.asarray(joints, np.float64)
    return joints - joints[..., H36M_ROOT : H36M_ROOT + 1, :]


def distances(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Euclidean distances (...,J) of points (...,J,D), unaligned."""
    return np.linalg.norm(np.asarray(predicted, np.float64) - np.asarray(true, np.float64), axis=-1)


def joint_errors(predicted: ArrayLike, true: ArrayLike, *, alignment: str = "none") -> Array:
    """Distance of each joint (N,17), mm, after the root is centred and the alignment applied.

    "none": MPJPE; "scale": one factor per pose, s = <p,g>/<p,p> (N-MPJPE); "similarity": Procrustes
    with rotation, scale and shift, det = +1 (P-MPJPE); "orthogonal": rotation or reflection about the
    root alone, no scale (the thesis' ``p_mpjpe_orth``, not P-MPJPE).
    """
    predicted, true = root_centred(predicted), root_centred(true)
    if alignment == "scale":
        predicted = best_scale(predicted, true)[..., None, None] * predicted
    elif alignment == "similarity":
        predicted = align(predicted, true)
    elif alignment == "orthogonal":
        predicted = align(predicted, true, scale=False, shift=False, reflection=True)
    elif alignment != "none":
        raise ValueError(f"alignment {alignment!r} is none of none, scale, similarity, orthogonal")
    return distances(predicted, true)


def mean_over_joints(errors: ArrayLike, *, joints: int) -> Array:
    """Mean (N,) of joint errors (N,17) over all 17 joints, or over the 16 that are not the root."""
    errors = np.asarray(errors, np.float64)
    if joints == 17:
        return errors.mean(-1)
    if joints == 16:
        return np.delete(errors, H36M_ROOT, axis=-1).mean(-1)
    raise ValueError(f"joints {joints} is neither 16 nor 17")


def mpjpe(predicted: ArrayLike, true: ArrayLike, *, joints: int = 17) -> Array:
    """Mean joint distance (N,), mm, root-centred, nothing aligned."""
    return mean_over_joints(joint_errors(predicted, true), joints=joints)


def n_mpjpe(predicted: ArrayLike, true: ArrayLike, *, joints: int = 17) -> Array:
    """Mean joint distance (N,), mm, after the best scale of each pose about its root."""
    return mean_over_joints(joint_errors(predicted, true, alignment="scale"), joints=joints)


def p_mpjpe(predicted: ArrayLike, true: ArrayLike, *, joints: int = 17) -> Array:
    """Mean joint distance (N,), mm, after similarity Procrustes of each pose, det = +1."""
    return mean_over_joints(joint_errors(predicted, true, alignment="similarity"), joints=joints)


def p_mpjpe_orth(predicted: ArrayLike, true: ArrayLike, *, joints: int = 17) -> Array:
    """Mean joint distance (N,), mm, after the best rotation or reflection about the root, no scale."""
    return mean_over_joints(joint_errors(predicted, true, alignment="orthogonal"), joints=joints)


def pose_metrics(predicted: ArrayLike, true: ArrayLike) -> dict[str, Array]:
    """Every joint metric by name, each a number per pose (N,): mpjpe_17_mm, ..., pck_150, pck_auc."""
    found: dict[str, Array] = {}
    kinds = {"mpjpe": "none", "n_mpjpe": "scale", "p_mpjpe": "similarity", "p_mpjpe_orth": "orthogonal"}
    for name, alignment in kinds.items():
        errors = joint_errors(predicted, true, alignment=alignment)
        for joints in (16, 17):
            found[f"{name}_{joints}_mm"] = mean_over_joints(errors, joints=joints)
    found["pck_150"] = pck(predicted, true)
    found["pck_auc"] = pck_auc(predicted, true)
    return found


def pck(predicted: ArrayLike, true: ArrayLike, *, threshold_mm: float = PCK_THRESHOLD_MM) -> Array:
    """Share (N,) of the 16 joints other than the root that lie within ``threshold_mm``."""
    return mean_over_joints(joint_errors(predicted, true) <= threshold_mm, joints=16)


def pck_auc(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Mean (N,) of PCK over the thresholds 0, 5, ..., 150 mm (MPI-INF-3DHP's protocol)."""
    thresholds = np.arange(0, PCK_THRESHOLD_MM + PCK_STEP_MM / 2, PCK_STEP_MM)
    errors = joint_errors(predicted, true)
    return np.mean([mean_over_joints(errors <= t, joints=16) for t in thresholds], axis=0)


def spread_mm(joints: ArrayLike) -> float:
    """Mean distance of the joints but the root from their mean pose, mm: small when a model is cautious."""
    joints = root_centred(joints)
    return float(mean_over_joints(distances(joints, joints.mean(0)), joints=16).mean())


def action_mean(values: ArrayLike, actions: ArrayLike) -> float:
    """Mean over actions of the mean within each: every action weighs the same."""
    return float(np.mean(list(means_by_group(values, actions).values())))


def means_by_group(values: ArrayLike, groups: ArrayLike) -> dict[int, float]:
    """Mean of ``values`` (N,) in each group, by the group's number, ascending."""
    values, groups = np.asarray(values, np.float64), np.asarray(groups)
    return {int(group): float(values[groups == group].mean()) for group in np.unique(groups)}


def summary(per_pose: Mapping[str, Array], actions: ArrayLike) -> dict[str, float]:
    """Plain mean over poses of each metric, and beside it its mean over actions (``_action_mean``)."""
    found: dict[str, float] = {}
    for name, values in per_pose.items():
        found[name] = float(np.mean(values))
        found[f"{name}_action_mean"] = action_mean(values, actions)
    return found


def pve(
    predicted: ArrayLike,
    true: ArrayLike,
    *,
    predicted_pelvis: ArrayLike | None = None,
    true_pelvis: ArrayLike | None = None,
) -> Array:
    """Mean vertex distance (N,) of vertices (N,V,3), in their unit; pelvises (N,3) are matched when given."""
    predicted, true = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if predicted_pelvis is not None:
        predicted = predicted - np.asarray(predicted_pelvis, np.float64)[..., None, :]
    if true_pelvis is not None:
        true = true - np.asarray(true_pelvis, np.float64)[..., None, :]
    return distances(predicted, true).mean(-1)


def p_pve(predicted: ArrayLike, true: ArrayLike) -> Array:
    """Mean vertex distance (N,) after similarity Procrustes, det = +1, in the vertices' unit."""
    return distances(align(predicted, true), true).mean(-1)


def geodesic_deg(R_predicted: ArrayLike, R_true: ArrayLike) -> Array:
    """Angle (...), degrees, of the rotation between rotation matrices (...,3,3).

    From the chord |R - S| = 2 sqrt(2) sin(angle / 2), which stays exact near 0, and near 180 degrees
    from the trace, where the chord is flat.
    """
    R_predicted, R_true = np.asarray(R_predicted, np.float64), np.asarray(R_true, np.float64)
    chord = np.linalg.norm(R_predicted - R_true, axis=(-2, -1)) / (2 * np.sqrt(2))
    cosine = ((R_predicted * R_true).sum((-2, -1)) - 1) / 2
    # cos(angle) = 2 cos^2(angle/2) - 1
    half_cosine = np.sqrt(np.clip((1 + cosine) / 2, 0, None))
    return np.rad2deg(2 * np.arctan2(chord, half_cosine))


def mask_iou(mask: ArrayLike, other: ArrayLike) -> Array:
    """Intersection over union (N,) of boolean masks (N,H,W); 1 where both are empty."""
    mask, other = np.asarray(mask, bool), np.asarray(other, bool)
    both, either = (mask & other).sum((-2, -1)), (mask | other).sum((-2, -1))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def psnr(predicted: ArrayLike, true: ArrayLike, *, mask: ArrayLike | None = None) -> Array:
    """Peak signal-to-noise ratio (N,), dB, of pictures (N,H,W,3) in [0,1]; weighted by ``mask`` (N,H,W).

    At most 100 dB, which an exact match is given. NaN where the mask is empty.
    """
    squares = np.square(np.asarray(predicted, np.float64) - np.asarray(true, np.float64)).mean(-1)
    return -10 * np.log10(np.maximum(_weighted_mean(squares, mask), 1e-10))


def ssim(predicted: ArrayLike, true: ArrayLike, *, mask: ArrayLike | None = None) -> Array:
    """Structural similarity (N,) of pictures (N,H,W,3) in [0,1]; weighted by ``mask`` (N,H,W).

    Wang et al. 2004: Gaussian window of sigma 1.5 in 11x11 pixels (mirrored at the border),
    K1 = 0.01, K2 = 0.03, mean over channels. NaN where the mask is empty.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    mean_x, mean_y = _window(x), _window(y)
    variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _SSIM_C1) / (mean_x**2 + mean_y**2 + _SSIM_C1)
    structure = (2 * covariance + _SSIM_C2) / (variance_x + variance_y + _SSIM_C2)
    return _weighted_mean((luminance * structure).mean(-1), mask)


def _window(pictures: Array) -> Array:
    return gaussian_filter(
        pictures, (0, _SSIM_SIGMA, _SSIM_SIGMA, 0), radius=(0, _SSIM_RADIUS, _SSIM_RADIUS, 0)
    )


def _weighted_mean(values: Array, mask: ArrayLike | None) -> Array:
    if mask is None:
        return values.mean((-2, -1))
    weights = np.asarray(mask, np.float64)
    total = weights.sum((-2, -1))
    mean = np.full(total.shape, np.nan)
    return np.divide((values * weights).sum((-2, -1)), total, out=mean, where=total > 0)
