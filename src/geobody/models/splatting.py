"""Soft Gaussian balls drawn by a virtual camera, without sorting: their layer of colour and opacity.

A ball n of density d_n and radius r_n (a standard deviation, in metres) thickens the air around its
projection p_n by tau_n(p) = d_n exp(-|p - p_n|^2 / 2 r_n^2). All together hide 1 - exp(-sum_n tau_n) of what
is behind them (Beer and Lambert). Their colour is the mean of the balls', weighted by tau_n exp(-Z_n / s):
nearer ones count more, smoothly. A Gaussian is a product of one in x and one in y, so that an image is a
product of two small matrices.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from geobody.models.arm import Cameras

OCCLUSION_M = 0.15
"""s: by how much nearer a ball must be to count e times as much."""
LEAST_RADIUS = 0.5
"""In pixels of the drawing: smaller balls would fall between its pixels."""
LEAST_DEPTH_M = 0.5
FARTHEST = -12.0
"""Least exponent of a Gaussian: beyond lie numbers so small that processors are slow with them."""
HAZE = 1e-2
"""Added to tau: the opacity of empty air, so that its logit is finite."""


class Balls(NamedTuple):
    """Positions (B,N,3) in metres around the crop's centre, colours (B,N,3), radii and densities (B,N)."""

    points: Tensor
    colours: Tensor
    radii_m: Tensor
    densities: Tensor


def project(points: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """x and y (B,N) of points (B,N,3) in sides of the crop from its middle, and sides per metre there."""
    depth = (points[..., 2] + cameras.depth_m[:, None]).clamp_min(LEAST_DEPTH_M)
    scale = cameras.focal[:, None] / depth
    return points[..., 0] * scale, points[..., 1] * scale, scale


def splat(
    balls: Balls, cameras: Cameras, *, side: int, widen_m: float | None = None
) -> tuple[Tensor, Tensor]:
    """Colours (B,3,side,side) in [0,1] and the logits of opacity (B,1,side,side), float32.

    ``widen_m`` draws every ball as a Gaussian of that width more sees it (widths add as squares), its
    density lowered so that it keeps its mass.
    """
    with torch.autocast(balls.points.device.type, enabled=False):
        x, y, scale = project(balls.points.float(), cameras)
        radii, densities = balls.radii_m, balls.densities
        if widen_m is not None:
            wide = (radii.square() + widen_m**2).sqrt()
            radii, densities = wide, densities * (radii / wide).square()
        radii = (radii * scale).clamp_min(LEAST_RADIUS / side)
        centres = (torch.arange(side, device=x.device) - (side - 1) / 2) / side
        across, down = (
            torch.exp((-0.5 * ((centres - place[..., None]) / radii[..., None]).square()).clamp_min(FARTHEST))
            for place in (x, y)
        )  # (B,N,side)
        down = (down * densities[..., None]).transpose(1, 2)
        thickness = down @ across
        depth = balls.points[..., 2]
        nearness = torch.exp((depth.amin(1, keepdim=True).detach() - depth) / OCCLUSION_M)
        ones = torch.ones_like(nearness)[..., None]
        painted = (nearness[..., None] * torch.cat([balls.colours, ones], -1))[..., None] * across[:, :, None]
        sums = (down @ painted.flatten(2)).unflatten(2, (4, side))  # (B,side,4,side)
        colours = sums[:, :, :3] / (sums[:, :, 3:] + 1e-8)
        thickness = thickness[:, None] + HAZE
        logits = thickness + torch.log(-torch.expm1(-thickness))  # log(exp(tau) - 1)
        return colours.transpose(1, 2), logits
