"""Skeletons fitted to the silhouettes of several views, from where fused predictions put them.

What a network that saw one person's labels says of another is roughly right and disagrees between views.
Silhouettes of calibrated cameras are exact, and nobody labels them. So the pose of an instant is moved until its
limbs (``geobody.multiview.limbs``) cover the masks of all its views, with the limbs' lengths and thicknesses
those of one person over all instants, and, where a network says it, joints are seen where its heat maps have them
(``geobody.multiview.heat``).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geobody.conventions import H36M_PARENTS
from geobody.multiview.fusion import disagreement, fuse_views, to_crops, to_world
from geobody.multiview.heat import heat_at, log_heat, meet
from geobody.multiview.limbs import draw_limbs, silhouette_loss

PICTURE_PX = 32
PRIOR_MM = 100.0
BONE_MM = 50.0
KIDS = [joint for joint, parent in enumerate(H36M_PARENTS) if parent >= 0]
PARENTS = [parent for parent in H36M_PARENTS if parent >= 0]


@dataclass(frozen=True)
class FitRecipe:
    """How hard the terms pull and for how long.

    ``prior_weight`` is for the squared distance to the fused joints (100 mm cost 1, less where the views
    disagree: over the disagreement, at least ``least_disagreement``, in units of 100 mm, to ``prior_power``),
    ``bone_weight`` for lengths that differ from the person's (50 mm cost 1), ``heat_weight`` for the negative
    logarithm of the heat; a silhouette that misses its mask costs about 1.
    """

    steps: int = 30
    prior_weight: float = 0.05
    prior_power: float = 1.0
    least_disagreement: float = 0.3
    heat_weight: float = 0.0
    bone_weight: float = 0.1
    offset_weight: float = 0.1
    joint_rate_mm: float = 12.0
    radius_rate: float = 0.01
    length_rate_mm: float = 2.0


HEAT_RECIPE = FitRecipe(prior_weight=0.025, prior_power=2.0, least_disagreement=0.15, heat_weight=0.05)
"""For views with heat maps."""


def fit_skeletons(
    predicted_mm: Tensor,
    *,
    R_world_to_crop: Tensor,
    centre_crop_mm: Tensor,
    focal_px: Tensor,
    masks: Tensor,
    log_radii: Tensor,
    recipe: FitRecipe,
    heat: Tensor | None = None,
) -> Tensor:
    """Joints (I,C,17,3), mm, in the crop frames, cameras at the origin, of the skeletons of one person.

    ``predicted_mm`` (I,C,17,3) in crop frames, ``R_world_to_crop`` (I,C,3,3), ``centre_crop_mm`` (I,C,3) where
    the crops' cameras have one point near the root (see ``meeting_points``), ``focal_px`` (I,C) for pictures of
    ``masks`` (I,C,S,S) in [0,1], and ``log_radii`` (L,) to start from. With ``heat`` (I,C,17,s,s), each map a
    distribution over cells, fused joints are where the heat of all views meets.
    """
    size, in_world = masks.shape[-1], to_world(predicted_mm, R_world_to_crop)

    def spread_about(fused: Tensor) -> Tensor:
        return disagreement(in_world, fused).mean(1).clamp(min=recipe.least_disagreement * PRIOR_MM)

    fused = fuse_views(predicted_mm, R_world_to_crop)
    logs = None if heat is None else log_heat(heat)
    if logs is not None:
        fused = meet(
            fused, logs, spread_about(fused), R_world_to_crop=R_world_to_crop, centre_crop_mm=centre_crop_mm,
            focal_px=focal_px, size_px=size,
        )  # fmt: skip
    sure = (PRIOR_MM / spread_about(fused)) ** recipe.prior_power
    joints = fused.clone().requires_grad_()
    radii = log_radii.clone().requires_grad_()
    lengths = _lengths(fused).median(0).values.clone().requires_grad_()
    offset = torch.zeros_like(fused[:, :1]).requires_grad_()
    rates = (recipe.joint_rate_mm, recipe.radius_rate, recipe.length_rate_mm, recipe.joint_rate_mm)
    moved = (joints, radii, lengths, offset)
    optimizer = torch.optim.Adam([{"params": [p], "lr": rate} for p, rate in zip(moved, rates, strict=True)])

    def place(centred: Tensor) -> Tensor:
        return to_crops(centred + offset, R_world_to_crop) + centre_crop_mm[:, :, None]

    def silhouettes(placed: Tensor) -> Tensor:
        drawn = draw_limbs(placed.flatten(0, 1), radii, focal_px.flatten(), size_px=size)
        return silhouette_loss(drawn, masks.flatten(0, 1)).view(masks.shape[:2]).mean(1)

    for step in range(recipe.steps):
        share = 0.5 * (1.0 + np.cos(np.pi * step / recipe.steps)) + 0.02
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        centred = joints - joints[:, :1]
        prior = (((centred - fused) / PRIOR_MM).square().sum(-1) * sure).mean()
        bones = ((_lengths(centred) - lengths) / BONE_MM).square().mean()
        away = (offset / PRIOR_MM).square().sum(-1).mean()
        placed = place(centred)
        loss = silhouettes(placed).mean() + recipe.prior_weight * prior + recipe.bone_weight * bones
        loss = loss + recipe.offset_weight * away
        if logs is not None:
            maps = logs.flatten(1, 2)  # a view for each joint, which has a map of its own
            seen = heat_at(
                placed.flatten(1, 2)[:, :, None],
                maps,
                focal_px.repeat_interleave(logs.shape[2], 1),
                size_px=size,
            )
            loss = loss - recipe.heat_weight * seen.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return place(joints - joints[:, :1])


def meeting_points(centre_world_mm: np.ndarray, R_world_to_crop: np.ndarray) -> np.ndarray:
    """Points (I,C,3), mm, in crop frames: where the optical axes of an instant's crops come nearest to one another.

    Of ``centre_world_mm`` (I,C,3), the cameras' centres, and ``R_world_to_crop`` (I,C,3,3). Crops look at the person,
    so that is where the person is: the root itself where crops are centred on it, otherwise a point near it for
    which no label is needed. Least squares of the distances to the axes; where these are parallel, the point nearest
    to all centres.
    """
    axis = R_world_to_crop[:, :, 2]
    across = np.eye(3) - axis[..., :, None] * axis[..., None, :]  # (I,C,3,3), onto the axis' normal plane
    system = across.sum(1) + 1e-9 * np.eye(3)
    point = np.linalg.solve(system, np.einsum("icjk,ick->ij", across, centre_world_mm)[..., None])[..., 0]
    return np.einsum("icjk,ick->icj", R_world_to_crop, point[:, None] - centre_world_mm)


def small_masks(masks: np.ndarray) -> Tensor:
    """Masks (N,S,S) uint8 as (N,32,32) in [0,1], each pixel a mean."""
    full = torch.from_numpy(np.asarray(masks)).float().div_(255.0)
    return F.adaptive_avg_pool2d(full[:, None], PICTURE_PX)[:, 0]


def _lengths(joints: Tensor) -> Tensor:
    return (joints[:, KIDS] - joints[:, PARENTS]).norm(dim=-1)
