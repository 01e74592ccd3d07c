"""A training step of whatever finds poses in crops: the same batch, augmentation and loss for arms and controls."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from geobody.data.crops import CropShards
from geobody.models.pose_batches import Augmentation, augmented, load_pose_batch
from geobody.models.pose_loss import pose_loss
from geobody.training.loop import Batch


class FindsPoses(Protocol):
    """A network that `pose_step` trains."""

    @property
    def track(self) -> str:
        """What it sees of a crop."""

    def network_input(self, images: Tensor, masks_diff: Tensor) -> Tensor:
        """What ``seen`` expects of images (B,3,S,S) and difference masks (B,1,S,S)."""

    def seen(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Joints (B,17,3) in mm, root at zero, and the logits of heat maps, the joints' first, if there are any."""


def pose_step(
    network: FindsPoses,
    crops: CropShards,
    placed_mm: NDArray,
    *,
    augmentation: Augmentation,
    heat_weight: float,
    device: torch.device,
) -> Callable[[Batch], Mapping[str, Tensor]]:
    """A ``loss_step`` of `geobody.training.loop.fit`: a batch's crops, augmented, and their loss (see `pose_loss`).

    ``placed_mm`` (N,17,3) are the joints of all crops where they are, mm, crop frames, read for a batch's rows alone.
    """

    def step(batch: Batch) -> Mapping[str, Tensor]:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            taught = augmented(
                load_pose_batch(crops, batch.rows, placed_mm[batch.rows], track=network.track, device=device),
                augmentation,
                generator=batch.generator,
            )
            shown = network.network_input(taught.images, taught.masks_diff)
        joints_mm, heat = network.seen(shown.contiguous(memory_format=torch.channels_last))
        return pose_loss(
            joints_mm, heat, true_mm=taught.joints_mm, places=taught.places, heat_weight=heat_weight
        )

    return step
