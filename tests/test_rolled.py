"""A camera that is rolled: the image turns, and the joints in its frame turn with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.models.arm import Latent
from geobody.rolled import ROLLS_DEG, rolled_errors

MM_PER_PX = 30.0


class SeesTheDot(nn.Module):
    """Its points are where the brightest spot of a picture is, from the middle, in pixels."""

    def network_input(self, images: Tensor, masks_diff: Tensor) -> Tensor:
        return images

    def encode(self, images: Tensor) -> Latent:
        grey = images.mean(1)
        weight = (grey - 0.2).clamp_min(0)
        size = grey.shape[-1]
        grid = torch.arange(size) - (size - 1) / 2
        total = weight.sum((1, 2))
        x = (weight * grid).sum((1, 2)) / total
        y = (weight * grid[:, None]).sum((1, 2)) / total
        return Latent(torch.stack((x, y, torch.zeros_like(x)), 1)[:, None], torch.zeros(len(x), 1))


class InMm(nn.Module):
    def forward(self, points: Tensor) -> Tensor:
        joints = torch.zeros(len(points), 17, 3)
        joints[:, 1:] = MM_PER_PX * points
        return joints


def test_what_follows_the_image_has_no_error_and_what_does_not_has_one(tmp_path: Path) -> None:
    shards = CropShards.open(write_fake_shards(tmp_path, frames=2, subjects=(9,)))
    images = np.zeros_like(shards.images)
    size = shards.crop_size_px
    rng = np.random.default_rng(0)
    offsets = rng.uniform(-size / 5, size / 5, (len(shards), 2)).round()
    joints = np.zeros((len(shards), 17, 3))
    for row, (x, y) in enumerate(offsets):
        column, line = int(size / 2 + x), int(size / 2 + y)
        images[row, line - 1 : line + 2, column - 1 : column + 2] = 255
        joints[row, 1:, :2] = MM_PER_PX * (np.array([column, line]) - (size - 1) / 2)
    known = replace(shards, images=images, table={**shards.table, "joints_mm": joints})
    found = rolled_errors(SeesTheDot(), InMm(), known, np.arange(len(known)))
    assert list(found) == [f"{degrees:g}" for degrees in ROLLS_DEG] == ["0", "5", "15", "45"]
    assert max(report["mpjpe_17_mm"] for report in found.values()) < 0.3 * MM_PER_PX

    class NeverRolls(InMm):
        """Says where things were before the camera was rolled."""

        def forward(self, points: Tensor) -> Tensor:
            return torch.from_numpy(joints[: len(points)]).float()

    few = replace(known, table={name: column[:8] for name, column in known.table.items()})
    unaware = rolled_errors(SeesTheDot(), NeverRolls(), few, np.arange(8))
    assert unaware["0"]["mpjpe_17_mm"] < 1e-3
    errors = [unaware[f"{degrees:g}"]["mpjpe_17_mm"] for degrees in ROLLS_DEG]
    assert errors == sorted(errors) and errors[-1] > 2 * MM_PER_PX
