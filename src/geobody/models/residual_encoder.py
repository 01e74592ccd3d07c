"""The encoder that all arms but ``thesis`` share, so that they compute alike; alone it is the arm ``scratch``."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from geobody.models.arm import N_APPEARANCE, N_POINTS, EncoderDecoder, Latent
from geobody.models.feature_pyramid import (
    COARSE_STRIDE,
    COARSE_WIDTH,
    FINE_STRIDE,
    FeaturePyramid,
)
from geobody.models.point_fields import PointFields

BLOB_M = (0.18, 0.42, 0.18)
"""Spread of the points before any training, right, down and forward: an upright person of any heading."""
NARROW = 128


class ResidualArm(EncoderDecoder):
    """Base of the arms whose L_3D are points of the picture, in metres."""

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__(crop_size_px=crop_size_px, track=track)
        self.pyramid = FeaturePyramid(crop_size_px=crop_size_px)
        self.points = PointFields(
            side=crop_size_px // FINE_STRIDE,
            count=N_POINTS,
            start=torch.randn(N_POINTS, 3) * torch.tensor(BLOB_M),
        )
        self.appearance = nn.Sequential(
            nn.Conv2d(COARSE_WIDTH, NARROW, 1, bias=False),
            nn.BatchNorm2d(NARROW),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(NARROW * (crop_size_px // COARSE_STRIDE) ** 2, N_APPEARANCE),
        )

    def encode(self, images: Tensor) -> Latent:
        features = self.pyramid(images)
        points = self.points(features.fine)
        return Latent(points.places, self.appearance(features.coarse).float(), points.heat)


class Scratch(ResidualArm):
    """The arm ``scratch``: the encoder as the seed made it, for heads that learn without any pretext."""

    arm: ClassVar[str] = "scratch"
    trained: ClassVar[bool] = False
    equivariant: ClassVar[bool] = False
