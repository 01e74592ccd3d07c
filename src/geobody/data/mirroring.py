"""Mirror images of crops with their joints: a person's left becomes a right."""

import torch
from torch import Tensor

from geobody.conventions import H36M_MIRROR


def mirror_images(images: Tensor, which: Tensor) -> Tensor:
    """``images`` (B,C,S,S), those of ``which`` (B,) bool with left and right exchanged."""
    return torch.where(which[:, None, None, None], images.flip(-1), images)


def mirror_joints(joints: Tensor, which: Tensor) -> Tensor:
    """``joints`` (B,17,3), root-centred in the crop frame, those of ``which`` as the mirror shows them.

    Likewise their places in the picture, (B,17,2), from its centre. Exact because a crop's principal point is that.
    """
    mirrored = (
        joints[:, list(H36M_MIRROR)]
        * torch.tensor((-1.0, 1.0, 1.0), device=joints.device)[: joints.shape[-1]]
    )
    return torch.where(which[:, None, None], mirrored, joints)
