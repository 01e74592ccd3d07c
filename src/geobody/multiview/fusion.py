"""One pose from the predictions of several cameras at one instant."""

from torch import Tensor

NEAR_MM = 5.0
"""Distance below which a prediction counts no more: the geometric median's weights are bounded by it."""
ITERATIONS = 20


def fuse_views(joints_mm: Tensor, R_world_to_crop: Tensor) -> Tensor:
    """Root-centred joints (I,17,3), mm, world axes, of predictions (I,C,17,3) in the crop frames of C cameras.

    Each joint is the geometric median of its predictions (Weiszfeld 1937, with bounded weights), which one
    camera that is far off cannot move far.
    """
    in_world = to_world(joints_mm, R_world_to_crop)
    fused = in_world.mean(1)
    for _ in range(ITERATIONS):
        weights = 1.0 / disagreement(in_world, fused).clamp(min=NEAR_MM)
        fused = (weights[..., None] * in_world).sum(1) / weights.sum(1)[..., None]
    return fused


def to_world(joints: Tensor, R_world_to_crop: Tensor) -> Tensor:
    """Points (I,C,J,3) of crop frames in world axes, origins kept: x -> R^T x, with R (I,C,3,3)."""
    return joints @ R_world_to_crop


def to_crops(joints: Tensor, R_world_to_crop: Tensor) -> Tensor:
    """Points (I,J,3) in world axes as the C cameras' crop frames have them, (I,C,J,3), origins kept."""
    return joints[:, None] @ R_world_to_crop.transpose(2, 3)


def disagreement(in_world: Tensor, fused: Tensor) -> Tensor:
    """Distances (I,C,J) of the views' joints (I,C,J,3) to the fused ones (I,J,3)."""
    return (in_world - fused[:, None]).norm(dim=-1)
