"""An arm's encoder with a pose head on it: from a crop to joints, trained as one.

The head is the equivariant one, so L_3D stays what it is: a cloud of points that turns with the person, of which
each joint is a weighted sum.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geobody.data.crops import CropShards
from geobody.data.mirroring import mirror_images, mirror_joints
from geobody.models.arm import N_POINTS, EncoderDecoder
from geobody.models.encoder_decoder import load_views
from geobody.models.pose_head import EquivariantPoseHead
from geobody.models.pose_scale import N_JOINTS, PoseScale, without_root, zero_root
from geobody.models.residual_encoder import ResidualArm

START = 1.25 / N_POINTS
"""Spread of the first weights: a joint's add up to about one, so that a step of all points moves it as it moves one
output of a linear layer. With larger ones a rate that suits the encoder makes the joints jump."""
BATCH = 256


class PoseNetwork(nn.Module):
    """Crop -> 17 joints in mm, root at zero, crop frame, through the L_3D of ``arm``."""

    unit_mm: Tensor

    def __init__(self, arm: EncoderDecoder) -> None:
        super().__init__()
        self.arm = arm
        self.weight = nn.Parameter(START * torch.randn(N_JOINTS, N_POINTS))
        self.scale = PoseScale()
        self.register_buffer("unit_mm", torch.ones(N_JOINTS, 1))

    def set_scale(self, joints_mm: np.ndarray) -> None:
        """Takes means and spreads of ``joints_mm`` (N,17,3), training labels; a joint's weights count in its spread."""
        self.scale.set_from(joints_mm)
        self.unit_mm.copy_(self.scale.std_mm.square().mean(1, keepdim=True).sqrt())

    def start_at_mean(self) -> None:
        """Makes an untrained encoder's first poses the mean of the labels, nearly."""
        if not isinstance(self.arm, ResidualArm):
            raise TypeError(f"arm {self.arm.arm!r} has no points to start with")
        with torch.no_grad():
            mean = self.scale.mean_mm / self.unit_mm
            self.arm.start_points(torch.linalg.pinv(self.weight[1:]) @ mean[1:])

    def loss(self, predicted_mm: Tensor, true_mm: Tensor) -> Tensor:
        """Mean squared error of (B,17,3) over the joints other than the root, each in units of its spread.

        One unit for the three directions of a joint: they change places when the person turns.
        """
        error = (predicted_mm.float() - true_mm.float()) / self.unit_mm
        return without_root(error).square().mean()

    def start_from(self, head: EquivariantPoseHead) -> None:
        """Takes over the weights of a head that was solved for the arm's embeddings."""
        with torch.no_grad():
            self.weight.copy_(head.weight / self.unit_mm)

    def forward(self, images: Tensor) -> Tensor:
        """(B,17,3) mm of what ``arm.network_input`` gives for crops, (B,3,S,S)."""
        points = self.arm.encode(images).points
        with torch.autocast(images.device.type, enabled=False):
            return zero_root(torch.einsum("jp,bpc->bjc", self.unit_mm * self.weight, points.float()))

    @property
    def head_config(self) -> dict[str, Any]:
        """What builds ``head()`` again."""
        return {"kind": "equivariant", "n_points": N_POINTS}

    def head(self) -> EquivariantPoseHead:
        """The head alone, for embeddings of the arm."""
        head = EquivariantPoseHead(n_points=N_POINTS)
        with torch.no_grad():
            head.weight.copy_((self.unit_mm * self.weight).cpu())
        return head.eval()

    def freeze_unused(self, images: Tensor) -> None:
        """Makes constants of the parameters that a pose does not depend on: the decoder's."""
        self.forward(images).square().mean().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None


@torch.no_grad()
def predict_rows(
    network: PoseNetwork, crops: CropShards, rows: np.ndarray, *, device: torch.device
) -> Tensor:
    """(N,17,3) float32 joints in mm of the crops ``rows`` (N,), on the CPU, each the mean of an image and its mirror.

    Leaves the network in evaluation mode.
    """
    network.eval()
    found = []
    for start in range(0, len(rows), BATCH):
        views, masks_diff, _ = load_views(crops, rows[start : start + BATCH], device)
        seen = network.arm.network_input(views.images, masks_diff)
        every = torch.ones(len(seen), dtype=torch.bool, device=device)
        straight, mirrored = (
            network(x.contiguous(memory_format=torch.channels_last)).float()
            for x in (seen, mirror_images(seen, every))
        )
        found.append((0.5 * (straight + mirror_joints(mirrored, every))).cpu())
    return torch.cat(found)
