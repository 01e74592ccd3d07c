"""A skeleton's silhouette: each limb a capsule, drawn softly, differentiable in joints and thickness.

Nothing but 17 joints, a thickness per limb and the crop's own camera: enough for masks to say where a
person's limbs are, at a thousandth of a mesh's cost.
"""

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geobody.conventions import H36M_JOINTS

LIMBS: Final = (
    ("hip", "right_hip", 0.0), ("right_hip", "right_knee", 0.0), ("right_knee", "right_ankle", 0.15),
    ("hip", "left_hip", 0.0), ("left_hip", "left_knee", 0.0), ("left_knee", "left_ankle", 0.15),
    ("hip", "spine", 0.0), ("spine", "neck", 0.0), ("neck", "head", 0.0), ("head", "head_top", 0.0),
    ("neck", "left_shoulder", 0.0), ("left_shoulder", "left_elbow", 0.0), ("left_elbow", "left_wrist", 0.5),
    ("neck", "right_shoulder", 0.0), ("right_shoulder", "right_elbow", 0.0), ("right_elbow", "right_wrist", 0.5),
    ("left_shoulder", "left_hip", 0.0), ("right_shoulder", "right_hip", 0.0),
    ("left_shoulder", "right_shoulder", 0.0), ("right_hip", "left_hip", 0.0),
)  # fmt: skip
"""Capsules: from, to, and how far they go on beyond ``to`` as a share of their length: hands and heels."""

START_MM: Final = 70.0
"""Radius that ``fit_radii`` starts from."""
EDGE_PX: Final = 1.0
"""Softness of a capsule's edge, in pixels of the picture."""


def draw_limbs(joints_mm: Tensor, log_radii: Tensor, focal_px: Tensor, *, size_px: int) -> Tensor:
    """Silhouettes (B,S,S) in (0,1) of joints (B,17,3), mm, in crop frames (camera at the origin).

    ``log_radii`` (L,) or (B,L) are logarithms of the limbs' radii in mm, ``focal_px`` (B,) focal lengths for
    a picture of ``size_px`` pixels: x_px = focal X / Z + (S-1)/2. A pixel takes the capsule that covers it most.
    """
    start, end, beyond = _limb_ends(joints_mm.device)
    a, b = joints_mm[:, start], joints_mm[:, end]
    b = b + beyond[:, None] * (b - a)
    middle = (size_px - 1) / 2
    a_px, b_px = (focal_px[:, None, None] * x[..., :2] / x[..., 2:] + middle for x in (a, b))
    radius = focal_px[:, None] * log_radii.exp() / ((a[..., 2] + b[..., 2]) / 2)
    ends = torch.cat([a_px, b_px, radius[..., None]], dim=-1)  # (B,L,5)
    grid = torch.arange(size_px, dtype=torch.float32, device=joints_mm.device)
    x, y = (t.reshape(1, -1) for t in torch.meshgrid(grid, grid, indexing="xy"))
    with torch.no_grad():  # which capsule a pixel belongs to; only that one is differentiated
        best = torch.full((len(ends), x.shape[1]), -math.inf, device=ends.device)
        owner = torch.zeros(best.shape, dtype=torch.int64, device=ends.device)
        for limb in range(len(LIMBS)):
            depth = _inside(ends[:, limb, None].expand(-1, 1, -1), x, y)
            closer = depth > best
            best = torch.where(closer, depth, best)
            owner.masked_fill_(closer, limb)
    chosen = ends.gather(1, owner[..., None].expand(-1, -1, 5))
    return torch.sigmoid(_inside(chosen, x, y) / EDGE_PX).view(-1, size_px, size_px)


def silhouette_loss(drawn: Tensor, masks: Tensor) -> Tensor:
    """Losses (B,) of silhouettes (B,S,S) against masks: 1 - Dice plus the mean binary cross-entropy."""
    overlap = (drawn * masks).sum((1, 2))
    total = drawn.square().sum((1, 2)) + masks.square().sum((1, 2))
    crossed = F.binary_cross_entropy(drawn.clamp(1e-4, 1 - 1e-4), masks, reduction="none").mean((1, 2))
    return 1.0 - (2.0 * overlap + 1e-6) / (total + 1e-6) + crossed


def fit_radii(
    joints_mm: Tensor, masks: Tensor, focal_px: Tensor, *, steps: int = 60, learning_rate: float = 0.05
) -> Tensor:
    """Logarithms (L,) of the radii, mm, with which labelled joints (B,17,3) fill their masks (B,S,S) best."""
    log_radii = torch.full((len(LIMBS),), math.log(START_MM), requires_grad=True)
    optimizer = torch.optim.Adam([log_radii], lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        drawn = draw_limbs(joints_mm, log_radii, focal_px, size_px=masks.shape[-1])
        silhouette_loss(drawn, masks).mean().backward()
        optimizer.step()
    return log_radii.detach()


def _inside(ends: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """How deep in its capsule each pixel lies, px, negative outside: ends (B,1 or P,5), x and y (1,P)."""
    ax, ay, bx, by, radius = ends.unbind(-1)
    dx, dy = bx - ax, by - ay
    rx, ry = x - ax, y - ay
    along = ((rx * dx + ry * dy) / (dx * dx + dy * dy + 1e-4)).clamp(0, 1)
    return radius - ((rx - along * dx).square() + (ry - along * dy).square() + 1e-6).sqrt()


def _limb_ends(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    start = torch.tensor([H36M_JOINTS.index(name) for name, _, _ in LIMBS], device=device)
    end = torch.tensor([H36M_JOINTS.index(name) for _, name, _ in LIMBS], device=device)
    return start, end, torch.tensor([share for _, _, share in LIMBS], device=device)
