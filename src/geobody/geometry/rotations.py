"""Rotation matrices out of other matrices."""

import torch
from torch import Tensor


def nearest_rotation(matrices: Tensor) -> Tensor:
    """The rotations (...,3,3) nearest to matrices in the Frobenius norm (orthogonal Procrustes)."""
    u, _, vh = torch.linalg.svd(matrices)
    sign = torch.ones(matrices.shape[:-1], dtype=matrices.dtype, device=matrices.device)
    sign[..., 2] = torch.linalg.det(u @ vh)
    return u * sign.unsqueeze(-2) @ vh
