"""Turns about the world's vertical, in the frames of crops."""

import pytest
import torch
from pytorch3d.transforms import random_rotations

from geobody.geometry.turns import random_turns, rotate


def turns(share: float) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    R = random_rotations(500, dtype=torch.float64)
    return R, random_turns(R, share=share, generator=torch.Generator().manual_seed(3))


def test_a_turn_is_a_rotation_that_keeps_the_worlds_vertical() -> None:
    R, turn = turns(1.0)
    eye = torch.eye(3, dtype=torch.float64).expand_as(turn)
    torch.testing.assert_close(turn @ turn.transpose(1, 2), eye, atol=1e-6, rtol=0)
    assert torch.linalg.det(turn).min() > 0.99
    up = R[:, :, 2:]
    torch.testing.assert_close(turn @ up, up, atol=1e-6, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_is_turned_and_the_rest_stays(share: float) -> None:
    _, turn = turns(share)
    moved = (turn - torch.eye(3, dtype=turn.dtype)).flatten(1).norm(dim=1) > 1e-3
    assert abs(float(moved.double().mean()) - share) < 0.06


def test_angles_fill_the_circle() -> None:
    R, turn = turns(1.0)
    yaw = R.transpose(1, 2) @ turn @ R
    angles = torch.atan2(yaw[:, 1, 0], yaw[:, 0, 0])
    assert torch.histc(angles, bins=8, min=-torch.pi, max=torch.pi).min() > 30


def test_turning_a_point_and_its_axes_alike_changes_nothing() -> None:
    R, turn = turns(1.0)
    points = torch.randn(len(R), 5, 3, dtype=torch.float64)
    torch.testing.assert_close(rotate(turn.transpose(1, 2), rotate(turn, points)), points, atol=1e-5, rtol=0)
