"""The lower half of a ResNet-18 (He et al., CVPR 2016), with torchvision's names for its weights."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ResNet18Features(nn.Module):
    """Features after the stem, layer1 and layer2, of images (B,3,S,S) in [0,1], RGB.

    Normalises its input itself. Call it in eval mode: its batch norm belongs to ImageNet.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_BasicBlock(64, 64, stride=1), _BasicBlock(64, 64, stride=1))
        self.layer2 = nn.Sequential(_BasicBlock(64, 128, stride=2), _BasicBlock(128, 128, stride=1))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stem = F.relu(self.bn1(self.conv1((images - self.mean) / self.std)))
        low = self.layer1(F.max_pool2d(stem, 3, stride=2, padding=1))
        return stem, low, self.layer2(low)


class _BasicBlock(nn.Module):
    def __init__(self, width_in: int, width_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or width_in != width_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width_out, 1, stride=stride, bias=False), nn.BatchNorm2d(width_out)
            )

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(images)))
        return cast(Tensor, F.relu(self.bn2(self.conv2(hidden)) + self.downsample(images)))
