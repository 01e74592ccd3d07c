"""Batches of images with joints, augmented alike for whatever learns poses from images.

The control CNNs and the heads that tune the encoder share this module and its params, so that no arm
gets a stronger augmentation than the control it is compared with.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geobody.conventions import H36M_ROOT
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
from geobody.models.tracks import known_masks


@dataclass(frozen=True)
class Augmentation:
    """How images and joints are changed; keys and units as in ``params.yaml: augmentation``, ``moved_share`` as in
    ``tuning``."""

    strength: float
    background_share: float
    turn_deg: float
    shift_std: float
    zoom_std: float
    mirror: bool
    moved_share: float = 1.0


@dataclass(frozen=True)
class PoseBatch:
    """Images, backgrounds (B,3,S,S), masks and difference masks (B,1,S,S) in [0,1]; joints (B,17,3) in mm.

    ``masks`` are those that may change what is seen (see `known_masks`). ``placed_mm`` are the joints where they are,
    crop frame, camera at the origin; ``focal_px`` (B,) the crops' focal lengths.
    """

    images: Tensor
    masks: Tensor
    masks_diff: Tensor
    backgrounds: Tensor
    placed_mm: Tensor
    focal_px: Tensor


class Taught(NamedTuple):
    """What a network is taught by: images (B,3,S,S), difference masks (B,1,S,S), joints (B,17,3) in mm from the
    root, and where they are in the picture, (B,17,2), x and y in [-1,1] from edge to edge."""

    images: Tensor
    masks_diff: Tensor
    joints_mm: Tensor
    places: Tensor


def load_pose_batch(
    crops: CropShards,
    rows: NDArray[np.int64],
    placed_mm: NDArray[np.float32],
    *,
    track: str,
    device: torch.device,
) -> PoseBatch:
    """The crops ``rows`` (B,) with joints ``placed_mm`` (B,17,3) in their frames, whoever they are from."""
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
        masks=known_masks(masks, masks_diff, track=track),
        masks_diff=masks_diff,
        backgrounds=backgrounds,
        placed_mm=torch.from_numpy(placed_mm).to(device),
        focal_px=torch.from_numpy(crops.table["focal_px"][rows].astype(np.float32)).to(device),
    )


def labelled_joints(crops: CropShards, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Labels (N,17,3) of all crops, mm, crop frames, cameras at the origin: of ``rows`` alone, NaN elsewhere."""
    placed = np.full((len(crops), *crops.table["joints_mm"].shape[1:]), np.nan, np.float32)
    placed[rows] = crops.table["joints_mm"][rows] + crops.root_crop_mm(rows)[:, None]
    return placed


def augmented(batch: PoseBatch, augmentation: Augmentation, *, generator: torch.Generator) -> Taught:
    """Images and joints as a network trains on them.

    Some people move in front of another's background; colours change, the person's apart from the
    room's (the masks tell them apart); the camera rolls and, for ``moved_share`` of the images, the crop is centred and
    scaled a little differently, as crops around a box or a mask are; half of the images are mirrored, joints with them.
    """
    images = batch.images
    if augmentation.background_share > 0:
        images = shuffle_backgrounds(
            images,
            batch.masks,
            batch.backgrounds,
            generator=generator,
            probability=augmentation.background_share,
        )
    images = augment(images, batch.masks, generator=generator, strength=augmentation.strength)
    pixels = batch.focal_px[:, None, None] * batch.placed_mm[..., :2] / batch.placed_mm[..., 2:]
    taught = Taught(
        images=images,
        masks_diff=batch.masks_diff,
        joints_mm=batch.placed_mm - batch.placed_mm[:, H36M_ROOT : H36M_ROOT + 1],
        places=pixels * (2.0 / images.shape[-1]),
    )
    if augmentation.turn_deg > 0 or augmentation.shift_std > 0 or augmentation.zoom_std > 0:
        taught = _moved(taught, focal_px=batch.focal_px, augmentation=augmentation, generator=generator)
    if augmentation.mirror:
        which = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        taught = Taught(
            mirror_images(taught.images, which),
            mirror_images(taught.masks_diff, which),
            mirror_joints(taught.joints_mm, which),
            mirror_joints(taught.places, which),
        )
    return taught


def _moved(
    taught: Taught, *, focal_px: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> Taught:
    images, masks_diff, joints_mm, places = taught
    count, size, device = len(images), images.shape[-1], images.device
    angles = draw_turns(count, std_deg=augmentation.turn_deg, generator=generator).to(device)
    shift = (augmentation.shift_std * torch.randn(count, 2, generator=generator)).to(device)  # of a side
    zoom = torch.exp(augmentation.zoom_std * torch.randn(count, generator=generator)).to(device)
    if augmentation.moved_share < 1:
        still = (torch.rand(count, generator=generator) >= augmentation.moved_share).to(device)
        shift[still], zoom[still] = 0.0, 1.0
    roll = roll_matrices(angles)
    turn = roll @ aim_matrices(size * shift, focal_px)
    # One call for both: a mask outside its crop repeats its border, as the image does.
    both = move_images(torch.cat([images, masks_diff], 1), angles=angles, shift_px=size * shift, zoom=zoom)
    moved = zoom[:, None, None] * (places - 2.0 * shift[:, None]) @ roll[:, :2, :2].transpose(1, 2)
    return Taught(both[:, :3], both[:, 3:], joints_mm @ turn.transpose(1, 2), moved)
