"""The arm ``thesis``: the MSc thesis' encoder-decoder as it was, at half its widths for half its crop.

Its terms' weights are the thesis' too, but not the features that one of them compares (`FeatureLoss`).
Kept for comparison with its faults: a ReLU on L_3D confines a point cloud to one octant before it is
turned, and the background enters after the last spatial convolution. 18.6 M weights at 64 px.
"""

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geobody.losses import FeatureLoss
from geobody.models.arm import N_APPEARANCE, N_POINTS, Cameras, DrawingArm, Latent, LossWeights, Views

WIDTHS = (32, 64, 128, 256)
DECODER_WIDTHS = (128, 64, 32)
SPREAD = 128
DROPOUT = 0.3


class ThesisNetwork(DrawingArm):
    """Four levels of two plain convolutions; linear maps with ReLU; three doublings back to the crop."""

    arm: ClassVar[str] = "thesis"

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__(crop_size_px=crop_size_px, track=track)
        self.side = crop_size_px // 8
        levels: list[nn.Module] = []
        width = 3
        for index, wider in enumerate(WIDTHS):
            levels += [nn.MaxPool2d(2)] if index else []
            levels += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU(inplace=True)]
            levels += [nn.Conv2d(wider, wider, 3, padding=1), nn.ReLU(inplace=True)]
            width = wider
        self.encoder = nn.Sequential(*levels)
        flat = width * self.side**2
        self.to_points = nn.Sequential(nn.Linear(flat, 3 * N_POINTS), nn.Dropout(DROPOUT), nn.ReLU())
        self.to_appearance = nn.Sequential(nn.Linear(flat, N_APPEARANCE), nn.Dropout(DROPOUT), nn.ReLU())
        self.spread = nn.Sequential(nn.Linear(3 * N_POINTS, SPREAD * self.side**2), nn.ReLU())
        stages: list[nn.Module] = []
        width = SPREAD + N_APPEARANCE
        for narrower in DECODER_WIDTHS:
            stages.append(nn.ConvTranspose2d(width, narrower, 2, stride=2))
            for _ in range(2):
                stages += [nn.Conv2d(narrower, narrower, 3, padding=1), nn.BatchNorm2d(narrower)]
                stages.append(nn.ReLU(inplace=True))
            width = narrower
        self.decoder = nn.Sequential(*stages)
        self.last = nn.Conv2d(width + 3, 3, 1)

    def encode(self, images: Tensor) -> Latent:
        hidden = self.encoder(images).flatten(1)
        points = self.to_points(hidden).float().unflatten(1, (N_POINTS, 3))
        return Latent(points, self.to_appearance(hidden).float())

    def render(self, latent: Latent, backgrounds: Tensor, cameras: Cameras) -> Tensor:
        return self._draw(latent, backgrounds).clamp(0, 1)

    def drawing_loss(
        self, latent: Latent, target: Views, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        """The thesis' own terms and weights; ``weights`` are for the other arms."""
        drawn = self._draw(latent, target.backgrounds)
        terms = {"mse": F.mse_loss(drawn, target.images), "feature": feature_loss(drawn, target.images)}
        return {"total": (terms["mse"] + 2.0 * terms["feature"]) / 2.0, **terms}

    def _draw(self, latent: Latent, backgrounds: Tensor) -> Tensor:
        hidden = self.spread(latent.points.flatten(1)).unflatten(1, (SPREAD, self.side, self.side))
        tiled = latent.appearance.to(hidden.dtype)[:, :, None, None].expand(-1, -1, self.side, self.side)
        hidden = torch.cat([hidden, tiled], 1).contiguous(memory_format=torch.channels_last)
        hidden = self.decoder(hidden)
        return cast(Tensor, self.last(torch.cat([hidden, backgrounds.to(hidden.dtype)], 1)).float())
