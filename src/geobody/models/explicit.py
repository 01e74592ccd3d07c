"""The arm ``explicit``: geometry by construction. L_3D's points are balls in space, in metres.

What rhodin's decoder has to learn is known: a turned cloud of points is projected by the target's virtual
camera and drawn as soft balls (see `splatting`), whose sizes are learned and whose colours come from L_app.
The point that a crop is centred on is the clouds' origin in every view.

Drawing is cheap beside encoding, so each image is drawn twice, from its own points and from its partner's,
and the two clouds should be one. Widened balls against a widened mask reach where the drawn ones do not.
"""

import math
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geobody.losses import FeatureLoss, mask_bce, mask_dice
from geobody.models.arm import (
    N_APPEARANCE,
    N_POINTS,
    Cameras,
    DrawingArm,
    Latent,
    Lesson,
    LossWeights,
    Views,
)
from geobody.models.residual_encoder import ResidualArm
from geobody.models.splatting import Balls, splat
from geobody.models.view_synthesis import layer_loss

RADIUS_M = 0.07
DENSITY = 0.3
WIDENED_M = 0.15
AGREEMENT_WEIGHT = 2.0
"""Of the squared distance, in m^2, between the clouds of two views."""


class Explicit(ResidualArm, DrawingArm):
    """Points in metres, drawn by projection. Colours come from L_app; radii and densities belong to the points."""

    arm: ClassVar[str] = "explicit"

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__(crop_size_px=crop_size_px, track=track)
        self.colours = nn.Linear(N_APPEARANCE, 3 * N_POINTS)
        self.radii = nn.Parameter(torch.full((N_POINTS,), math.log(RADIUS_M)))
        self.densities = nn.Parameter(torch.full((N_POINTS,), math.log(DENSITY)))

    def render(self, latent: Latent, backgrounds: Tensor, cameras: Cameras) -> Tensor:
        colours, logits = splat(self.balls(latent), cameras, side=backgrounds.shape[-1])
        return torch.lerp(backgrounds, colours, logits.sigmoid())

    def drawing_loss(
        self, latent: Latent, target: Views, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        balls, side = self.balls(latent), self.crop_size_px // 2
        colours, logits = splat(balls, target.cameras, side=side)
        terms = layer_loss(colours, logits, target, feature_loss=feature_loss, weights=weights)
        _, coarse = splat(balls, target.cameras, side=side // 2, widen_m=WIDENED_M)
        wide = widened(F.avg_pool2d(target.masks, 4), target.cameras)
        terms["coarse"] = mask_bce(coarse, wide) + mask_dice(coarse.sigmoid(), wide)
        terms["total"] = terms["total"] + weights.mask * terms["coarse"]
        return terms

    def loss(
        self, latent: Latent, lesson: Lesson, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        """Every view drawn from itself and from its partner, whatever the lesson's ``source`` is."""
        other = lesson.turned(latent.points, lesson.partner)
        looks = latent.appearance[lesson.appearance]
        twice = Latent(torch.cat([latent.points, other]), torch.cat([looks, looks]))
        terms = self.drawing_loss(twice, lesson.views.repeated(2), feature_loss=feature_loss, weights=weights)
        terms["agreement"] = (other - latent.points).square().sum(-1).mean()
        terms["total"] = terms["total"] + AGREEMENT_WEIGHT * terms["agreement"]
        return terms

    def balls(self, latent: Latent) -> Balls:
        """What a latent looks like, float32."""
        with torch.autocast(latent.points.device.type, enabled=False):
            colours = cast(Tensor, self.colours(latent.appearance.float())).sigmoid()
            shape = latent.points.shape[:2]
            return Balls(
                points=latent.points.float(),
                colours=colours.unflatten(1, (N_POINTS, 3)),
                radii_m=self.radii.exp().expand(shape),
                densities=self.densities.exp().expand(shape),
            )


def widened(masks: Tensor, cameras: Cameras) -> Tensor:
    """Masks (B,1,s,s) blurred by ``WIDENED_M`` at the depth of each crop's centre."""
    side = masks.shape[-1]
    sigma = WIDENED_M * cameras.focal / cameras.depth_m * side  # pixels
    places = torch.arange(side, device=masks.device, dtype=masks.dtype)
    kernel = torch.exp(-0.5 * ((places[:, None] - places) / sigma[:, None, None]).square())
    kernel = kernel / (sigma[:, None, None] * math.sqrt(2.0 * math.pi))
    return (kernel @ masks[:, 0] @ kernel)[:, None].clamp(0, 1)
