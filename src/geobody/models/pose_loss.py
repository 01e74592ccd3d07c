"""What poses are trained on, in all networks that see images: distances in space and places in the picture."""

from torch import Tensor

from geobody.models.point_fields import cell_centres
from geobody.models.pose_scale import N_JOINTS, without_root

UNIT_MM = 150.0
"""A mean distance that costs 1."""
NEAR_MM = 5.0
"""Distance below which a joint's loss turns from linear to quadratic."""
HEAT_CELLS = 0.75
"""Standard deviation of the place of a joint in the picture, in cells of the heat map."""


def pose_loss(
    joints_mm: Tensor, heat: Tensor | None, *, true_mm: Tensor, places: Tensor, heat_weight: float
) -> dict[str, Tensor]:
    """Terms of predicted joints (B,17,3), root at zero, beside ``true_mm``; "total" is minimised.

    The distance, not its square: a few joints that are hidden do not outweigh those that can be had, and none is
    drawn to the middle. Joints count alike in millimetres, as in the measures. ``heat`` (B,P,s*s), logits whose first
    17 maps are the joints', is told where joints are in the picture, ``places`` (B,17,2) in [-1,1]: one that
    is outside is not asked for.
    """
    error = without_root(joints_mm.float() - true_mm.float())
    distance = (error.square().sum(-1) + NEAR_MM**2).sqrt().mean()
    terms = {"total": distance / UNIT_MM}
    if heat is not None and heat_weight > 0:
        terms["heat"] = heat_loss(heat[:, :N_JOINTS], places)
        terms["total"] = terms["total"] + heat_weight * terms["heat"]
    return terms | {"mpjpe_17_mm": (joints_mm.detach() - true_mm).norm(dim=-1).mean()}


def heat_loss(logits: Tensor, places: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence of heat maps (B,17,s*s) from normal distributions about ``places`` (B,17,2)."""
    side = round(logits.shape[-1] ** 0.5)
    centres = cell_centres(side).to(logits.device)
    sigma = HEAT_CELLS * 2.0 / side
    wanted = (-(places[:, :, None] - centres).square().sum(-1) / (2 * sigma**2)).log_softmax(-1)
    missed = (wanted.exp() * (wanted - logits.float().log_softmax(-1))).sum(-1)
    inside = (places.abs().amax(-1) < 1).float()
    return (missed * inside).sum() / inside.sum().clamp(min=1)
