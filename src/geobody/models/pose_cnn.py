"""The control: a small residual network from a crop straight to 3D joints, trained from scratch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from geobody.models.pose_scale import N_JOINTS, PoseScale
from geobody.models.tracks import require_track

TOTAL_STRIDE = 16


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: Tensor) -> Tensor:
        """(B,out_channels,H/stride,W/stride)"""
        residual = self.norm2(self.conv2(relu(self.norm1(self.conv1(features)))))
        return relu(residual + self.shortcut(features))


class PoseCNN(nn.Module):
    """Crop -> 17 joints in mm, root at zero, crop frame.

    Stem of stride 2, then residual blocks ``channels`` wide whose 2nd, 4th and 6th halve the
    resolution, 1x1 to ``feature_channels``, flattened, linear: the encoder family of the embedded
    set's representation, so the control's capacity is the arms'.
    """

    def __init__(
        self,
        *,
        crop_size_px: int = 64,
        channels: Sequence[int] = (32, 64, 64, 128, 128, 256),
        feature_channels: int = 128,
        dropout: float = 0.0,
        track: str = "rgb",
    ) -> None:
        super().__init__()
        self.track = require_track(track)
        if crop_size_px % TOTAL_STRIDE:
            raise ValueError(f"crop_size_px {crop_size_px}: a multiple of {TOTAL_STRIDE}")
        if len(channels) != 6:
            raise ValueError(f"channels {tuple(channels)}: six widths")
        self.crop_size_px = crop_size_px
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels[0], 5, 2, 2, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU()
        )
        widths = (channels[0], *channels)
        self.blocks = nn.Sequential(
            *(ResidualBlock(widths[i], widths[i + 1], stride=1 + i % 2) for i in range(len(channels)))
        )
        self.neck = nn.Sequential(
            nn.Conv2d(channels[-1], feature_channels, 1, bias=False),
            nn.BatchNorm2d(feature_channels),
            nn.ReLU(),
        )
        side = crop_size_px // TOTAL_STRIDE
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(feature_channels * side * side, 3 * N_JOINTS)
        self.scale = PoseScale()

    def forward(self, images: Tensor) -> Tensor:
        """(B,17,3) mm; ``images`` (B,3,S,S) RGB in [0,1], as ``track`` has them (see ``models.tracks``)."""
        features = self.neck(self.blocks(self.stem((images - 0.5) / 0.25)))
        standardised = self.head(self.dropout(features.flatten(1)))
        return self.scale(standardised.unflatten(1, (N_JOINTS, 3)))


def images_to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(B,C,S,S) float32 in [0,1], channels last in memory, from (B,S,S,C) uint8."""
    copied = torch.from_numpy(np.array(images, order="C"))  # a mapped array is read-only
    return copied.to(device).permute(0, 3, 1, 2).float().div(255.0)
