"""Nearest rotations: what a stretch leaves of a rotation, and never a reflection."""

import torch
from pytorch3d.transforms import random_rotations

from geobody.geometry.rotations import nearest_rotation


def test_nearest_rotation_undoes_a_stretch_and_never_reflects() -> None:
    rotation = random_rotations(20)
    stretch = torch.diag(torch.tensor([2.0, 1.0, 0.5]))
    torch.testing.assert_close(nearest_rotation(rotation @ stretch), rotation, atol=1e-5, rtol=0)
    assert torch.linalg.det(nearest_rotation(torch.diag(torch.tensor([1.0, 1.0, -0.1])))).item() > 0
