"""The control: the arms' network from a crop straight to 3D joints, trained from scratch."""

import numpy as np
import torch
from torch import Tensor, nn

from geobody.conventions import H36M_ROOT, MM_PER_M
from geobody.models.feature_pyramid import FINE_STRIDE, FeaturePyramid
from geobody.models.point_fields import PointFields
from geobody.models.pose_scale import N_JOINTS
from geobody.models.tracks import network_input, require_track


class PoseCNN(nn.Module):
    """Crop -> 17 joints in mm, root at zero, crop frame: a point of the picture for each joint.

    The feature pyramid and the kind of points that the arms have, so the control's capacity is theirs.
    """

    def __init__(self, *, crop_size_px: int = 64, track: str = "rgb") -> None:
        super().__init__()
        self.track = require_track(track)
        self.crop_size_px = crop_size_px
        self.pyramid = FeaturePyramid(crop_size_px=crop_size_px)
        self.points = PointFields(side=crop_size_px // FINE_STRIDE, count=N_JOINTS)

    def forward(self, images: Tensor) -> Tensor:
        """(B,17,3) mm; ``images`` (B,3,S,S) RGB in [0,1], as ``network_input`` gives them."""
        return self.seen(images)[0]

    def network_input(self, images: Tensor, masks_diff: Tensor) -> Tensor:
        """Images (B,3,S,S) with difference masks (B,1,S,S), as the network's track has them."""
        return network_input(images, masks_diff, track=self.track)

    def seen(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (B,17,3) as of ``forward``, and the logits (B,17,s*s) of their heat maps."""
        points = self.points(self.pyramid(images).fine)
        joints = points.places - points.places[:, H36M_ROOT : H36M_ROOT + 1]
        return MM_PER_M * joints, points.heat


def images_to_tensor(images: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(B,C,S,S) float32 in [0,1], channels last in memory, from (B,S,S,C) uint8."""
    copied = torch.from_numpy(np.array(images, order="C"))  # a mapped array is read-only
    return copied.to(device).permute(0, 3, 1, 2).float().div(255.0)
