"""Turns of a person about the world's vertical, seen from a crop's camera."""

import torch
from torch import Tensor


def random_turns(R_world_to_crop: Tensor, *, share: float, generator: torch.Generator) -> Tensor:
    """Rotations (B,3,3) in crop frames that turn about the world's z by any angle; identity but for a ``share``.

    ``R_world_to_crop`` is (B,3,3). L_3D turns with the person, so an embedding and its label that are
    turned alike are a label for a direction in which nobody was labelled.
    """
    n = len(R_world_to_crop)
    angle = (torch.rand(n, generator=generator) * 2 - 1) * torch.pi
    angle = angle * (torch.rand(n, generator=generator) < share)
    return vertical_turns(R_world_to_crop, angle)


def vertical_turns(R_world_to_crop: Tensor, angle: Tensor) -> Tensor:
    """Rotations (B,3,3) in crop frames that turn about the world's z by ``angle`` (B,), radians."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    c, s = angle.cos(), angle.sin()
    yaw = torch.stack((c, -s, zero, s, c, zero, zero, zero, one), dim=1).unflatten(1, (3, 3))
    return R_world_to_crop @ yaw.to(R_world_to_crop) @ R_world_to_crop.transpose(1, 2)


def rotate(rotation: Tensor, points: Tensor) -> Tensor:
    """Points (B,P,3) turned by rotations (B,3,3)."""
    return torch.einsum("bij,bpj->bpi", rotation, points)
