"""An arm's encoder with a pose head on it: from a crop to joints, trained as one.

The head is the equivariant one, so L_3D stays what it is: a cloud of points that turns with the person, of which
each joint is a weighted sum. In arms whose points are places in the picture the first 17 are the joints to
begin with, and the others correct them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from geobody.conventions import H36M_MIRROR, H36M_ROOT, MM_PER_M
from geobody.data.crops import CropShards
from geobody.data.mirroring import mirror_images, mirror_joints
from geobody.models.arm import N_POINTS, EncoderDecoder, Latent
from geobody.models.encoder_decoder import load_views
from geobody.models.pose_head import EquivariantPoseHead
from geobody.models.pose_scale import N_JOINTS, zero_root
from geobody.models.pose_step import FindsPoses
from geobody.models.residual_encoder import ResidualArm

START = 1.25 / N_POINTS
"""Spread of the first weights of points that are no joints. With larger ones a rate that suits the encoder makes the
joints jump, since all points move at once."""
BATCH = 256


class PoseNetwork(nn.Module):
    """Crop -> 17 joints in mm, root at zero, crop frame, through the L_3D of ``arm``."""

    def __init__(self, arm: EncoderDecoder) -> None:
        super().__init__()
        self.arm = arm
        weight = START * torch.randn(N_JOINTS, N_POINTS)
        weight[:, :N_JOINTS] += torch.eye(N_JOINTS)
        weight[:, H36M_ROOT] -= 1.0
        self.weight = nn.Parameter(weight)

    def start(self, solved: Callable[[], EquivariantPoseHead]) -> None:
        """Makes a trained arm ready: its first points learn to be the joints, whatever they were.

        In an arm whose points are no places in the picture the weights are those of the head that ``solved`` finds for
        its embeddings.
        """
        if isinstance(self.arm, ResidualArm):
            self.arm.points.forget(N_JOINTS)
        else:
            with torch.no_grad():
                self.weight.copy_(solved().weight / MM_PER_M)

    def forward(self, images: Tensor) -> Tensor:
        """(B,17,3) mm of what ``network_input`` gives for crops, (B,3,S,S)."""
        return self.seen(images)[0]

    @property
    def track(self) -> str:
        """What the arm sees of a crop."""
        return self.arm.track

    def network_input(self, images: Tensor, masks_diff: Tensor) -> Tensor:
        """What the arm expects of images (B,3,S,S) and difference masks (B,1,S,S)."""
        return self.arm.network_input(images, masks_diff)

    def seen(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Joints (B,17,3) as of ``forward``, and the heat of the points where the arm has any (see ``Latent``)."""
        latent: Latent = self.arm.encode(images)
        with torch.autocast(images.device.type, enabled=False):
            joints = torch.einsum("jp,bpc->bjc", MM_PER_M * self.weight, latent.points.float())
            return zero_root(joints), latent.heat

    @property
    def head_config(self) -> dict[str, Any]:
        """What builds ``head()`` again."""
        return {"kind": "equivariant", "n_points": N_POINTS}

    def head(self) -> EquivariantPoseHead:
        """The head alone, for embeddings of the arm."""
        head = EquivariantPoseHead(n_points=N_POINTS)
        with torch.no_grad():
            head.weight.copy_((MM_PER_M * self.weight).cpu())
        return head.eval()

    def freeze_unused(self, images: Tensor) -> None:
        """Makes constants of the parameters that a pose does not depend on: the decoder's."""
        self.forward(images).square().mean().backward()
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None


class Predicted(NamedTuple):
    """Of N crops, on the CPU: joints (N,17,3) in mm, root at zero, crop frames, float32; and their heat maps
    (N,17,s,s), each a distribution over cells, float16, if the arm has any."""

    joints_mm: Tensor
    heat: Tensor | None


class Predicts(FindsPoses, Protocol):
    """A network that `predict_rows` asks: an arm with its head, or a control."""

    def eval(self) -> object:
        """Goes into evaluation mode."""


@torch.no_grad()
def predict_rows(
    network: Predicts, crops: CropShards, rows: np.ndarray, *, heat_maps: bool, device: torch.device
) -> Predicted:
    """What the network finds in the crops ``rows`` (N,), each the mean of an image and its mirror.

    Keeps ``heat_maps`` where they are asked for and the network has any: some kilobytes a crop. Leaves the network in
    evaluation mode.
    """
    network.eval()
    joints, heat = [], []
    for start in range(0, len(rows), BATCH):
        views, masks_diff, _ = load_views(crops, rows[start : start + BATCH], device)
        seen = network.network_input(views.images, masks_diff)
        every = torch.ones(len(seen), dtype=torch.bool, device=device)
        straight, mirrored = (
            _seen(network, x.contiguous(memory_format=torch.channels_last))
            for x in (seen, mirror_images(seen, every))
        )
        joints.append((0.5 * (straight.joints_mm + mirror_joints(mirrored.joints_mm, every))).cpu())
        if heat_maps and straight.heat is not None and mirrored.heat is not None:
            turned = mirror_images(mirrored.heat, every)[:, list(H36M_MIRROR)]
            heat.append((0.5 * (straight.heat + turned)).half().cpu())
    return Predicted(torch.cat(joints), torch.cat(heat) if heat else None)


def _seen(network: Predicts, images: Tensor) -> Predicted:
    joints_mm, logits = network.seen(images)
    if logits is None:
        return Predicted(joints_mm.float(), None)
    side = round(logits.shape[-1] ** 0.5)
    return Predicted(joints_mm.float(), logits[:, :N_JOINTS].float().softmax(-1).unflatten(-1, (side, side)))
