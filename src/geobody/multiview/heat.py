"""Joints where the heat maps of several views meet.

A point that a network gives is the mean of its heat map. Where a wrist may be in either of two places the mean is in
neither, and three such means fuse to a fourth. The maps themselves still say both: the place in space that all views
find likely is the right one (Pavlakos et al., Harvesting Multiple Views for Marker-less 3D Human Pose Annotations,
CVPR 2017).
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geobody.conventions import H36M_JOINTS
from geobody.multiview.fusion import to_crops

FLOOR: Final = 1e-2
"""Added to the heat of a cell, so that one view that does not see a joint cannot rule a place out."""
HALF_SIDE_MM: Final = 300.0
SIDE_STEPS: Final = 11
"""Places that are tried for a joint: a cube of 11^3, 60 mm apart, about where its predictions fused."""
TRUST: Final = 2.0
"""How far from the fused place a joint may well be, in units of what its views disagree by."""
LIMB_JOINTS: Final = tuple(
    index
    for index, name in enumerate(H36M_JOINTS)
    if name.endswith(("knee", "ankle", "shoulder", "elbow", "wrist"))
)
"""Joints that are looked for; those of the trunk hardly move by it."""
INSTANTS: Final = 500


def log_heat(heat: Tensor) -> Tensor:
    """Logarithms of heat maps (I,C,17,s,s), each a distribution over cells, kept from falling to nothing."""
    return (heat.float() + FLOOR).log()


def heat_at(placed_mm: Tensor, logs: Tensor, focal_px: Tensor, *, size_px: int) -> Tensor:
    """Logarithms (I,C,N) of the heat where points (I,C,N,3), mm, crop frames, cameras at the origin, are seen.

    ``logs`` (I,C,s,s) is one map for each view, ``focal_px`` (I,C) for pictures of ``size_px`` pixels. A place outside
    the picture has the heat of its edge.
    """
    places = focal_px[..., None, None] * placed_mm[..., :2] / placed_mm[..., 2:] * (2.0 / size_px)
    found = F.grid_sample(
        logs.flatten(0, 1)[:, None],
        places.flatten(0, 1)[:, None],
        padding_mode="border",
        align_corners=False,
    )
    return found.view(places.shape[:-1])


@torch.no_grad()
def meet(
    fused_mm: Tensor,
    logs: Tensor,
    spread_mm: Tensor,
    *,
    R_world_to_crop: Tensor,
    centre_crop_mm: Tensor,
    focal_px: Tensor,
    size_px: int,
) -> Tensor:
    """Joints (I,17,3), mm, from the root, world axes: ``fused_mm``, limbs moved to where the heat of all views meets.

    Each is the mean of the places around it, weighted by the product of the C views' heat there and of a normal
    distribution of ``TRUST`` times ``spread_mm`` (I,17), what its views disagree by. ``logs`` (I,C,17,s,s) as of
    ``log_heat``; cameras as of ``geobody.multiview.fitting.fit_skeletons``.
    """
    axis = torch.linspace(-HALF_SIDE_MM, HALF_SIDE_MM, SIDE_STEPS, device=fused_mm.device)
    beside = torch.cartesian_prod(axis, axis, axis)  # (N,3)
    found = fused_mm.clone()
    for some in torch.arange(len(fused_mm), device=fused_mm.device).split(INSTANTS):
        for joint in LIMB_JOINTS:
            tried = fused_mm[some, joint, None] + beside
            placed = to_crops(tried, R_world_to_crop[some]) + centre_crop_mm[some][:, :, None]
            seen = heat_at(placed, logs[some, :, joint], focal_px[some], size_px=size_px).sum(1)
            near = beside.square().sum(-1) / (2.0 * (TRUST * spread_mm[some, joint, None]).square())
            found[some, joint] = torch.einsum("in,ind->id", (seen - near).softmax(-1), tried)
    return found
