"""The network that arms and controls look at crops with, so that they compute alike."""

from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor, nn

from geobody.errors import ParamsError

COARSE_STRIDE = 16
FINE_STRIDE = 4
FINE_WIDTH = 64
COARSE_WIDTH = 256


class Features(NamedTuple):
    """Of crops (B,3,S,S): ``fine`` (B,64,S/4,S/4) and ``coarse`` (B,256,S/16,S/16)."""

    fine: Tensor
    coarse: Tensor


class FeaturePyramid(nn.Module):
    """Crops (B,3,S,S) in [0,1] -> features at two scales, of which the fine ones know the coarse ones.

    A stem of stride 2 and six residual blocks to S/16, then back to S/4 by sums with what the way down had
    there (Lin et al., Feature Pyramid Networks, 2017). Whatever is to be found in an image is found in the
    fine features, wherever it is.
    """

    def __init__(self, *, crop_size_px: int) -> None:
        super().__init__()
        if crop_size_px % COARSE_STRIDE:
            raise ParamsError(
                f"params.yaml: crops.size_px: value {crop_size_px}: networks need a multiple of {COARSE_STRIDE}"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)
        )
        self.to_fine = nn.Sequential(
            ResidualBlock(32, 32, stride=1), ResidualBlock(32, 64, stride=2), ResidualBlock(64, 64, stride=1)
        )
        self.to_middle = nn.Sequential(ResidualBlock(64, 128, stride=2), ResidualBlock(128, 128, stride=1))
        self.to_coarse = ResidualBlock(128, COARSE_WIDTH, stride=2)
        self.narrow = nn.ModuleList(_narrow(width) for width in (COARSE_WIDTH, 128, 64))
        self.smooth_middle, self.smooth_fine = _smooth(), _smooth()

    def forward(self, images: Tensor) -> Features:
        fine = self.to_fine(self.stem((images - 0.5) * 4.0))
        middle = self.to_middle(fine)
        coarse = self.to_coarse(middle)
        back = self.smooth_middle(F.relu(_double(self.narrow[0](coarse)) + self.narrow[1](middle)))
        back = self.smooth_fine(F.relu(_double(back) + self.narrow[2](fine)))
        return Features(back, coarse)


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

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.body(images) + self.shortcut(images))


def _narrow(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, FINE_WIDTH, 1, bias=False), nn.BatchNorm2d(FINE_WIDTH))


def _smooth() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(FINE_WIDTH, FINE_WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(FINE_WIDTH),
        nn.ReLU(inplace=True),
    )


def _double(features: Tensor) -> Tensor:
    return cast(Tensor, F.interpolate(features, scale_factor=2.0, mode="nearest"))
