"""The encoder that all arms but ``thesis`` share, so that they compute alike; alone it is the arm ``scratch``."""

from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geobody.models.arm import N_APPEARANCE, N_POINTS, EncoderDecoder, Latent

START_SHARE = 0.3
"""How much of their first weights points keep that are to start near given ones."""


class ResidualArm(EncoderDecoder):
    """Base of the arms that encode by a `ResidualEncoder`, to 1/16 of the crop."""

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__(crop_size_px=crop_size_px, track=track)
        self.encoder = ResidualEncoder(crop_size_px=crop_size_px, outputs=3 * N_POINTS + N_APPEARANCE)

    def encode(self, images: Tensor) -> Latent:
        points, appearance = self.encoder(images).float().split([3 * N_POINTS, N_APPEARANCE], dim=1)
        return Latent(points.unflatten(1, (N_POINTS, 3)), appearance)

    def start_points(self, points: Tensor) -> None:
        """Makes L_3D of an untrained encoder ``points`` (200,3), with little about them."""
        with torch.no_grad():
            self.encoder.linear.bias[: 3 * N_POINTS] = points.flatten()
            self.encoder.linear.weight[: 3 * N_POINTS] *= START_SHARE


class Scratch(ResidualArm):
    """The arm ``scratch``: the encoder as the seed made it, for heads that learn without any pretext."""

    arm: ClassVar[str] = "scratch"
    trained: ClassVar[bool] = False
    equivariant: ClassVar[bool] = False


class ResidualEncoder(nn.Module):
    """Images (B,3,S,S) in [0,1] -> (B, outputs): stem and residual blocks to S/16, then a linear map."""

    def __init__(self, *, crop_size_px: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(
            ResidualBlock(32, 32, stride=1),
            ResidualBlock(32, 64, stride=2),
            ResidualBlock(64, 64, stride=1),
            ResidualBlock(64, 128, stride=2),
            ResidualBlock(128, 128, stride=1),
            ResidualBlock(128, 256, stride=2),
        )
        self.narrow = nn.Sequential(
            nn.Conv2d(256, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True)
        )
        self.linear = nn.Linear(128 * (crop_size_px // 16) ** 2, outputs)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.narrow(self.blocks(self.stem((images - 0.5) * 4.0)))
        return cast(Tensor, self.linear(hidden.flatten(1)))


class ResidualBlock(nn.Module):
    """conv3-BN-ReLU-conv3-BN beside a shortcut (a 1x1 convolution where the shape changes), then ReLU."""

    def __init__(self, width_in: int, width_out: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(width_out, width_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(width_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or width_in != width_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width_out, 1, stride=stride, bias=False), nn.BatchNorm2d(width_out)
            )
        # The last scale starts at 0, so that a block starts as its shortcut.
        nn.init.zeros_(cast(Tensor, cast(nn.BatchNorm2d, self.body[-1]).weight))

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.body(images) + self.shortcut(images))
