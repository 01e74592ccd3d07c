"""Batches of images with joints, augmented alike for whatever learns poses from images.

The control CNNs and the heads that tune the encoder share this module and its params, so that no arm
gets a stronger augmentation than the control it is compared with.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geobody.data.augmentation import (
    aim_matrices,
    augment,
    draw_turns,
    move_images,
    roll_matrices,
    shuffle_backgrounds,
)
from geobody.data.crops import CropShards
from geobody.data.mirroring import mirror_images, mirror_joints
from geobody.models.pose_cnn import images_to_tensor


@dataclass(frozen=True)
class Augmentation:
    """How images and joints are changed; keys and units as in ``params.yaml: augmentation``."""

    strength: float
    background_share: float
    turn_deg: float
    shift_std: float
    zoom_std: float
    mirror: bool


@dataclass(frozen=True)
class PoseBatch:
    """Images, backgrounds (B,3,S,S), masks and difference masks (B,1,S,S) in [0,1]; joints (B,17,3) in mm.

    ``focal_px`` (B,) are the crops' focal lengths.
    """

    images: Tensor
    masks: Tensor
    masks_diff: Tensor
    backgrounds: Tensor
    joints_mm: Tensor
    focal_px: Tensor


def load_pose_batch(
    crops: CropShards, rows: NDArray[np.int64], joints_mm: NDArray[np.float32], *, device: torch.device
) -> PoseBatch:
    """The crops ``rows`` (B,) with ``joints_mm`` (B,17,3), whoever they are from."""
    images, backgrounds, masks, masks_diff = (
        images_to_tensor(array, device)
        for array in (
            crops.images[rows],
            crops.backgrounds[rows],
            crops.masks[rows][..., None],
            crops.masks_diff[rows][..., None],
        )
    )
    return PoseBatch(
        images=images,
        masks=masks,
        masks_diff=masks_diff,
        backgrounds=backgrounds,
        joints_mm=torch.from_numpy(joints_mm).to(device),
        focal_px=torch.from_numpy(crops.table["focal_px"][rows].astype(np.float32)).to(device),
    )


def augmented(
    batch: PoseBatch, augmentation: Augmentation, *, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B,3,S,S), difference masks (B,1,S,S) and joints (B,17,3) as a network trains on them.

    Some people move in front of another's background; colours change, the person's apart from the
    room's (the masks tell them apart); the camera rolls and the crop is centred and scaled a little differently,
    as crops around a box or a mask are; half of the images are mirrored, joints with them.
    """
    count = len(batch.images)
    images, masks_diff, joints_mm = batch.images, batch.masks_diff, batch.joints_mm
    if augmentation.background_share > 0:
        images = shuffle_backgrounds(
            images,
            batch.masks,
            batch.backgrounds,
            generator=generator,
            probability=augmentation.background_share,
        )
    images = augment(images, batch.masks, generator=generator, strength=augmentation.strength)
    if augmentation.turn_deg > 0 or augmentation.shift_std > 0 or augmentation.zoom_std > 0:
        images, masks_diff, joints_mm = _moved(
            images,
            masks_diff,
            joints_mm,
            focal_px=batch.focal_px,
            augmentation=augmentation,
            generator=generator,
        )
    if augmentation.mirror:
        which = (torch.rand(count, generator=generator) < 0.5).to(images.device)
        images, masks_diff = mirror_images(images, which), mirror_images(masks_diff, which)
        joints_mm = mirror_joints(joints_mm, which)
    return images, masks_diff, joints_mm


def _moved(
    images: Tensor,
    masks_diff: Tensor,
    joints_mm: Tensor,
    *,
    focal_px: Tensor,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    count, device = len(images), images.device
    angles = draw_turns(count, std_deg=augmentation.turn_deg, generator=generator).to(device)
    shift_px = images.shape[-1] * augmentation.shift_std * torch.randn(count, 2, generator=generator)
    zoom = torch.exp(augmentation.zoom_std * torch.randn(count, generator=generator))
    turn = roll_matrices(angles) @ aim_matrices(shift_px.to(device), focal_px)
    # One call for both: a mask outside its crop repeats its border, as the image does.
    both = move_images(torch.cat([images, masks_diff], 1), angles=angles, shift_px=shift_px, zoom=zoom)
    return both[:, :3], both[:, 3:], joints_mm @ turn.transpose(1, 2)
