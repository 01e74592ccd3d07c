"""From a network's standardised outputs to joints in millimetres, and the loss between them."""

import numpy as np
import torch
from torch import Tensor, nn

from geobody.conventions import H36M_JOINTS, H36M_ROOT

N_JOINTS = len(H36M_JOINTS)
MIN_STD_MM = 1.0


class PoseScale(nn.Module):
    """Mean and standard deviation of the training labels, coordinate by coordinate.

    Networks predict (pose - mean) / std, as in Rhodin et al. 2018; the root is the origin and is
    not predicted.
    """

    mean_mm: Tensor
    std_mm: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_mm", torch.zeros(N_JOINTS, 3))
        self.register_buffer("std_mm", torch.ones(N_JOINTS, 3))

    def set_from(self, joints_mm: np.ndarray) -> None:
        """Takes the statistics of ``joints_mm`` (N,17,3): root-centred training labels alone."""
        joints = np.asarray(joints_mm, dtype=np.float64)
        self.mean_mm.copy_(torch.from_numpy(joints.mean(0)))
        self.std_mm.copy_(torch.from_numpy(np.maximum(joints.std(0), MIN_STD_MM)))

    def forward(self, standardised: Tensor) -> Tensor:
        """(B,17,3) mm with the root at zero, from (B,17,3) standardised."""
        return zero_root(standardised.float() * self.std_mm + self.mean_mm)

    def loss(self, predicted_mm: Tensor, true_mm: Tensor) -> Tensor:
        """Mean squared standardised error over the joints other than the root; (B,17,3) mm each."""
        error = (predicted_mm.float() - true_mm.float()) / self.std_mm
        return without_root(error).square().mean()


def zero_root(joints: Tensor) -> Tensor:
    """``joints`` (...,17,3) with the root at the origin, whatever stood there."""
    keep = torch.ones(N_JOINTS, 1, dtype=joints.dtype, device=joints.device)
    keep[H36M_ROOT] = 0
    return joints * keep


def without_root(joints: Tensor) -> Tensor:
    """(...,16,3): the joints other than the root."""
    return torch.cat((joints[..., :H36M_ROOT, :], joints[..., H36M_ROOT + 1 :, :]), dim=-2)
