"""The arm ``rhodin``: Rhodin, Salzmann, Fua (ECCV 2018), with the faults of its re-implementations mended.

L_3D passes no ReLU, so that a turned point cloud stays expressible. The decoder draws the person and an
alpha channel, through which it lies over the target's background: a background can be hidden, not only
added to. Small enough for two cores: the picture is half the crop's size.
"""

import math
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geobody.losses import FeatureLoss, mask_bce, mask_dice, person_weighted_mse
from geobody.models.arm import N_APPEARANCE, N_POINTS, Cameras, DrawingArm, Latent, LossWeights, Views
from geobody.models.residual_encoder import ResidualArm

BACKGROUND_WEIGHT = 0.1


class ViewSynthesis(ResidualArm, DrawingArm):
    """Decoder to half of the crop's size as RGB and alpha."""

    arm: ClassVar[str] = "rhodin"

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__(crop_size_px=crop_size_px, track=track)
        self.decoder = AlphaDecoder(side=crop_size_px // 8)

    def render(self, latent: Latent, backgrounds: Tensor, cameras: Cameras) -> Tensor:
        colour, logits = self.decoder(latent)
        drawn = torch.cat([colour, logits.sigmoid()], 1)
        drawn = F.interpolate(drawn, size=backgrounds.shape[-2:], mode="bilinear", align_corners=False)
        return torch.lerp(backgrounds, drawn[:, :3], drawn[:, 3:])

    def drawing_loss(
        self, latent: Latent, target: Views, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        colour, logits = self.decoder(latent)
        return layer_loss(colour, logits, target, feature_loss=feature_loss, weights=weights)


def layer_loss(
    colour: Tensor, logits: Tensor, target: Views, *, feature_loss: FeatureLoss, weights: LossWeights
) -> dict[str, Tensor]:
    """Terms of a layer of colour (B,3,s,s) and alpha (logits, (B,1,s,s)) that lies over the backgrounds.

    s divides the size of the target, which is averaged down to it.
    """
    factor = target.images.shape[-1] // colour.shape[-1]
    images, backgrounds, masks = (
        F.avg_pool2d(t, factor) for t in (target.images, target.backgrounds, target.masks)
    )
    alpha = logits.sigmoid()
    drawn = torch.lerp(backgrounds, colour, alpha)
    terms = {
        "mse": person_weighted_mse(drawn, images, masks, background_weight=BACKGROUND_WEIGHT),
        "feature": feature_loss(drawn, images),
        "mask_bce": mask_bce(logits, masks),
        "mask_dice": mask_dice(alpha, masks),
    }
    total = weights.mse * terms["mse"] + weights.feature * terms["feature"]
    total = total + weights.mask * (terms["mask_bce"] + terms["mask_dice"])
    return {"total": total, **terms}


class AlphaDecoder(nn.Module):
    """Latent -> colours (B,3,4 side,4 side) in [0,1] and the logits of alpha (B,1,4 side,4 side), float32."""

    def __init__(self, *, side: int) -> None:
        super().__init__()
        self.side = side
        self.spread = nn.Linear(3 * N_POINTS, 64 * side * side)
        self.mix = _conv(64 + N_APPEARANCE, 96)
        self.middle = _conv(96, 64)
        self.fine = nn.Sequential(_conv(64, 48), _conv(48, 24))
        self.last = nn.Conv2d(24, 4, 3, padding=1)
        nn.init.constant_(cast(Tensor, self.last.bias)[3:], -math.log(9.0))  # a person covers about a tenth

    def forward(self, latent: Latent) -> tuple[Tensor, Tensor]:
        hidden = self.spread(latent.points.flatten(1)).unflatten(1, (64, self.side, self.side)).relu()
        tiled = latent.appearance.to(hidden.dtype)[:, :, None, None].expand(-1, -1, self.side, self.side)
        hidden = torch.cat([hidden, tiled], 1).contiguous(memory_format=torch.channels_last)
        hidden = self.middle(_double(self.mix(hidden)))
        drawn = self.last(self.fine(_double(hidden))).float()
        return drawn[:, :3].sigmoid(), drawn[:, 3:]


def _conv(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(inplace=True),
    )


def _double(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
