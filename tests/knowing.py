"""A predictor that knows where the person is: what is done with what networks find, without networks that find it."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch

from geobody.data.user_crops import UserCrop
from geobody.models.arm import N_APPEARANCE, N_POINTS, Latent
from geobody.models.point_fields import cell_centres
from geobody.predict import Predictor

FOCAL = 2.25
"""Of a crop's camera 4.5 m away, in sides of the crop."""


def seen_at(placed_mm: np.ndarray, focal: float = FOCAL) -> np.ndarray:
    """x and y in [-1,1] from edge to edge of points (...,3) in the crop's frame."""
    return 2 * focal * placed_mm[..., :2] / placed_mm[..., 2:]


class Knowing(Predictor):
    """Its networks see in any crop where the joints are that it was told of, a little off where the crop is."""

    joints_mm: np.ndarray
    root_mm: np.ndarray
    encoded = 0

    def _encode(self, crops: list[UserCrop]) -> Latent:
        self.encoded += 1
        heat = torch.zeros(len(crops), N_POINTS, 64 * 64)
        points = torch.zeros(len(crops), N_POINTS, 3)
        for i, crop in enumerate(crops):
            R = crop.virtual.R_cam_to_crop
            placed = (self.joints_mm + self.root_mm) @ R.T
            places = seen_at(placed, crop.virtual.focal_px / crop.virtual.crop_size_px)
            away = torch.cdist(torch.from_numpy(places).float(), cell_centres(64))
            heat[i, :17] = -400 * away.square()
            size = (
                np.linalg.norm(self.root_mm) / crop.virtual.depth_mm
            )  # as large as the crop makes them look
            points[i, :17] = torch.from_numpy(self.joints_mm @ R.T * size**-0.2).float()
        return Latent(points, torch.zeros(len(crops), N_APPEARANCE), heat)


class Reading(torch.nn.Module):
    """A pose head that takes the first points for the joints, in mm."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return points[:, :17]


def knowing(
    models: Path, *, joints_mm: np.ndarray, root_mm: np.ndarray, centred_on: Literal["root", "mask"] = "root"
) -> Knowing:
    """A predictor with the networks of ``models`` that knows where a person (17,3), mm, is."""
    opened = Predictor.open(models)
    found = Knowing(
        network=opened.network, head=Reading(), regressor=opened.regressor, body=opened.body, mask_box_mm=1600.0,
        centred_on=centred_on,
    )  # fmt: skip
    found.joints_mm, found.root_mm = joints_mm, root_mm
    return found
