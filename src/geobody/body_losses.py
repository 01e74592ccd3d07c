"""What a predicted body is judged by: joints, silhouettes, agreement between views.

Lengths are divided by UNIT_MM and overlaps lie in [0,1], so all terms are of order one where training
starts and their weights mean what they say. Image lengths are those of the crop's plane at the root's
depth: a crop of S pixels shows CROP_SIDE_MM there.
"""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from geobody.conventions import CROP_SIDE_MM

UNIT_MM = 100.0
"""Length that costs 1."""

SLACK_PX = 1.0
"""A mask sample within this distance of a projected vertex is covered: vertices lie no closer themselves."""

MARGIN = 0.1
"""How far the cross-entropy keeps a silhouette from 0 and 1."""
MIN_MASK_PX = 4
"""A mask with fewer pixels shows nobody, and judges nobody."""


def joint_loss(predicted_mm: Tensor, true_mm: Tensor) -> Tensor:
    """Mean distance of points (...,J,3), in UNIT_MM."""
    return (predicted_mm - true_mm).norm(dim=-1).mean() / UNIT_MM


def rotation_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean of 1 - cos of the angle between rotations (...,3,3): 1 at a right angle; |A - B|^2 / 4 of the matrices."""
    return (predicted - true).square().sum((-2, -1)).mean() / 4.0


def overlap_loss(silhouette: Tensor, mask: Tensor) -> Tensor:
    """Mean of 1 - IoU over images (B,S,S) in [0,1]; products stand for intersections.

    Images whose mask is empty are left out.
    """
    shared = (silhouette * mask).sum(dim=(1, 2))
    either = (silhouette + mask - silhouette * mask).sum(dim=(1, 2))
    return _mean_over_seen(1.0 - shared / either.clamp_min(1e-6), mask)


def crossentropy_loss(silhouette: Tensor, mask: Tensor) -> Tensor:
    """Mean binary cross-entropy of silhouettes (B,S,S) in [0,1] against masks; empty masks are left out.

    What the thesis took, on a hard raster: away from the outline its gradient is zero. Between a pixel's two values it
    is taken as linear, so that a gradient is what flipping a pixel changes. The logarithm's own gradient differs: a
    raster has gradients in the pixels just beyond the outline, which are 0, and one that belongs to the mask
    would pull the outline out (1 - MARGIN) / MARGIN times as hard as one that does not would push it in.
    """
    right, wrong = -math.log(1 - MARGIN), -math.log(MARGIN)
    differs = silhouette + mask - 2 * silhouette * mask
    return _mean_over_seen(right + (wrong - right) * differs.mean(dim=(1, 2)), mask)


def far_loss(xy: Tensor, *, mask: Tensor, samples: Tensor) -> Tensor:
    """How far projected vertices and mask lie apart, in UNIT_MM: its gradient reaches across the crop.

    ``xy`` (B,V,2) px; ``mask`` (B,S,S) in [0,1]; ``samples`` (B,M,2) px, points of the mask as from
    ``mask_samples``. The mean distance of a vertex to the mask, plus the mean distance of a sample to
    the nearest vertex beyond SLACK_PX: a chamfer distance, whose first half is read from the mask's
    distance transform. A vertex beyond the border is judged where the border is nearest to it.
    """
    size = mask.shape[-1]
    to_mask = bilinear(distance_to_mask(mask), xy).mean(dim=1)
    # cdist's own gradient is slow on the CPU: find the nearest without one, then measure again.
    with torch.no_grad():
        nearest = torch.cdist(samples, xy).argmin(dim=2)
    gap = samples - torch.gather(xy, 1, nearest[..., None].expand(-1, -1, 2))
    to_vertex = (gap.square().sum(dim=2) + 1e-6).sqrt()
    uncovered = (to_vertex - SLACK_PX).clamp_min(0.0).mean(dim=1)
    return _mean_over_seen(to_mask + uncovered, mask) * (CROP_SIDE_MM / size / UNIT_MM)


def agreement_loss(points_mm: Tensor, R_world_to_crop: Tensor) -> Tensor:
    """Distance of each view's root-centred points to the views' median, in UNIT_MM.

    ``points_mm`` (I,C,P,3), each view's in its own crop frame; ``R_world_to_crop`` (I,C,3,3). The median,
    taken in the world, is a constant: one bad view follows the others and does not pull them along.
    """
    world = torch.einsum("icdw,icpd->icpw", R_world_to_crop, points_mm)
    with torch.no_grad():
        median = _median(world)
    # Rounded below 1 mm, where a distance's own gradient would push just as hard in a random direction.
    distance = ((world - median).square().sum(dim=-1) + 1.0).sqrt() - 1.0
    return distance.mean() / UNIT_MM


def spread_loss(betas: Tensor) -> Tensor:
    """Mean square of betas (I,C,10) about their mean over the views: one person has one shape."""
    return (betas - betas.mean(dim=1, keepdim=True)).square().mean()


def turned_views(points_mm: Tensor, R_source: Tensor, R_target: Tensor) -> Tensor:
    """Root-centred points (B,P,3) of the source's crop frame, in the frames of C targets: (B,C,P,3).

    ``R_source`` (B,3,3) and ``R_target`` (B,C,3,3) map the world to the crops.
    """
    turn = R_target @ R_source.transpose(1, 2)[:, None]
    return torch.einsum("bcij,bpj->bcpi", turn, points_mm)


def mask_samples(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(B,count,2) px: pixels drawn with the mask (B,S,S) as weight; (0,0) where a mask is empty."""
    size = mask.shape[-1]
    weight = mask.flatten(1).to("cpu", torch.float32)
    weight[weight.sum(dim=1) == 0, 0] = 1.0
    drawn = torch.multinomial(weight, count, replacement=True, generator=generator)
    return torch.stack((drawn % size, drawn // size), dim=2).to(mask.device, torch.float32)


def distance_to_mask(mask: Tensor) -> Tensor:
    """Distance in px of each pixel (B,S,S) to the nearest one of the mask, zero in it."""
    outside = (mask < 0.5).to("cpu", torch.uint8).numpy()
    maps = [cv2.distanceTransform(image, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for image in outside]
    # OpenCV's last bits differ from call to call; squares of distances between pixels are whole numbers.
    return torch.from_numpy(np.sqrt(np.rint(np.square(np.stack(maps))))).to(mask.device)


def bilinear(images: Tensor, xy: Tensor) -> Tensor:
    """Values (B,N) of images (B,S,S) at ``xy`` (B,N,2) px, differentiable in xy; held at the border.

    torch's grid_sample has no deterministic gradient on GPUs.
    """
    size = images.shape[-1]
    held = xy.clamp(0, size - 1)
    corner = held.detach().floor().clamp(max=size - 2)
    tx, ty = (held - corner).unbind(dim=2)
    flat = images.flatten(1)
    at = (corner[..., 1] * size + corner[..., 0]).long()

    def pixel(offset: int) -> Tensor:
        return torch.gather(flat, 1, at + offset)

    upper = pixel(0) * (1 - tx) + pixel(1) * tx
    lower = pixel(size) * (1 - tx) + pixel(size + 1) * tx
    return upper * (1 - ty) + lower * ty


def _median(points: Tensor) -> Tensor:
    """Median over dim 1, kept; of an even number of views the mean of the middle two."""
    ordered = points.sort(dim=1).values
    count = points.shape[1]
    return (ordered[:, (count - 1) // 2] + ordered[:, count // 2])[:, None] / 2


def _mean_over_seen(losses: Tensor, mask: Tensor) -> Tensor:
    seen = (mask.sum(dim=(1, 2)) >= MIN_MASK_PX).to(losses.dtype)
    return (losses * seen).sum() / seen.sum().clamp_min(1.0)
