"""Changes of colour, background and in-plane rotation, batched, every draw from one generator.

Images are (B,3,S,S) in [0,1], masks (B,1,S,S) in [0,1]. Draws are made on the CPU, so that a batch
gets the same change on every kind of device.

What hides who is seen is a change of the *outfit*: a global colour matrix leaves the contrast between
shirt and trousers as it was. `ColourChange` therefore recolours inside the mask as a function of the
colour that is there, which treats garments differently and is the same in every view of a person;
`augment` adds patches, which are not.
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)
ANCHORS = 4
ANCHOR_SOFTNESS = 0.02
"""Squared RGB distance at which a colour is shared between two anchors."""
PATCHES = 3


@dataclass(frozen=True)
class ColourChange:
    """One change of colours for each of B persons, the same for all their images.

    Inside the mask a pixel of colour x becomes the mean over anchors k of ``matrix[k] x + offset[k]``,
    weighted by how near x is to ``anchor[k]``; then the whole image becomes
    ``(light_matrix x + light_offset) ** gamma``.
    """

    anchors: Tensor  # (B,K,3)
    matrices: Tensor  # (B,K,3,3)
    offsets: Tensor  # (B,K,3)
    light_matrix: Tensor  # (B,3,3)
    light_offset: Tensor  # (B,3)
    gamma: Tensor  # (B,)

    def repeat(self, times: int) -> "ColourChange":
        """Each change ``times`` times in a row: for that many images of each person."""
        return ColourChange(
            *(getattr(self, field.name).repeat_interleave(times, 0) for field in fields(self))
        )

    def recolour(self, images: Tensor, masks: Tensor) -> Tensor:
        """Images (B,3,S,S) with persons in other colours, in [0,1]."""
        anchors, matrices, offsets = (
            t.to(images.device) for t in (self.anchors, self.matrices, self.offsets)
        )
        pixels = images.flatten(2)  # (B,3,P)
        nearness = 2.0 * anchors @ pixels - anchors.square().sum(-1, keepdim=True)  # |x|^2 is common to all
        weights = (nearness / ANCHOR_SOFTNESS).softmax(1)  # (B,K,P)
        painted = _painted(pixels, weights, matrices, offsets).view_as(images)
        return torch.lerp(images, painted.clamp(0, 1), masks)

    def relight(self, images: Tensor) -> Tensor:
        """Images (B,3,S,S) under another light and gamma, in [0,1]: for persons and backgrounds alike."""
        matrix, offset = self.light_matrix.to(images.device), self.light_offset.to(images.device)
        lit = torch.baddbmm(offset[..., None], matrix, images.flatten(2)).view_as(images)
        return lit.clamp(1e-4, 1).pow(self.gamma.to(images.device)[:, None, None, None])


def draw_colours(count: int, *, generator: torch.Generator, strength: float = 1.0) -> ColourChange:
    """Draws the change of ``count`` persons; at ``strength`` 0 it changes nothing but rounding."""
    anchors = torch.rand(count, ANCHORS, 3, generator=generator)
    matrices, offsets = _draw_affine((count, ANCHORS), generator=generator, strength=strength)
    light_matrix, light_offset = _draw_affine((count,), generator=generator, strength=0.35 * strength)
    gamma = torch.exp(0.25 * strength * _uniform((count,), -1, 1, generator))
    return ColourChange(anchors, matrices, offsets, light_matrix, light_offset, gamma)


def augment(images: Tensor, masks: Tensor, *, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Images (B,3,S,S) in [0,1] with other outfits, light, sensor noise and holes, one draw per image.

    Outfit colours change locally within ``masks`` (by colour and by patch), light over the whole image.
    For single images: nothing is consistent between two views. ``strength`` 0 returns the images.
    """
    if strength == 0:
        return images
    with torch.autocast(images.device.type, enabled=False):
        change = draw_colours(len(images), generator=generator, strength=strength)
        images = change.recolour(images.float(), masks.float())
        images = _recolour_patches(images, masks.float(), generator=generator, strength=strength)
        return spoil(change.relight(images), generator=generator, strength=strength)


def spoil(images: Tensor, *, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Images (B,3,S,S) in [0,1] with sensor noise of up to 0.06 and, in half of them, a rectangular hole."""
    count, _, size, _ = images.shape
    sigma = 0.06 * strength * torch.rand(count, 1, 1, 1, generator=generator)
    noise = sigma * torch.randn(images.shape, generator=generator)
    sides = _uniform((count, 2, 1), 0.08, 0.3, generator) * min(1.0, strength)
    sides = sides * (torch.rand(count, 1, 1, generator=generator) < 0.5)
    centres = torch.rand(count, 2, 1, generator=generator)
    inside = (torch.linspace(0, 1, size) - centres).abs() < sides / 2  # (B,2,S)
    hole = (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None].to(images.device)
    colour = torch.rand(count, 3, 1, 1, generator=generator).to(images.device)
    return torch.where(hole, colour, (images + noise.to(images.device)).clamp(0, 1))


def replace_backgrounds(images: Tensor, masks: Tensor, backgrounds: Tensor) -> Tensor:
    """Persons of ``images``, cut out by ``masks``, in front of ``backgrounds`` (B,3,S,S)."""
    return torch.lerp(backgrounds, images, masks)


def shuffle_backgrounds(
    images: Tensor, masks: Tensor, backgrounds: Tensor, *, generator: torch.Generator, probability: float
) -> Tensor:
    """Images of which a share ``probability`` stands in front of another item's background."""
    order = torch.randperm(len(images), generator=generator).to(images.device)
    chosen = (torch.rand(len(images), 1, 1, 1, generator=generator) < probability).to(images.device)
    return torch.where(chosen, replace_backgrounds(images, masks, backgrounds[order]), images)


def draw_turns(count: int, *, std_deg: float, generator: torch.Generator) -> Tensor:
    """Angles (count,) in radians, normal with ``std_deg``: rolls of the camera about its optical axis."""
    return math.radians(std_deg) * torch.randn(count, generator=generator)


def roll_matrices(angles: Tensor) -> Tensor:
    """R_z(angle), (B,3,3): maps the crop frame to the rolled one, R_world_to_rolled = R_z R_world_to_crop."""
    cos, sin, zero, one = angles.cos(), angles.sin(), torch.zeros_like(angles), torch.ones_like(angles)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).view(-1, 3, 3)


def roll_images(images: Tensor, angles: Tensor, *, padding: str = "border") -> Tensor:
    """Images (B,C,S,S) as the camera rolled by ``angles`` sees them, turned about their centre.

    A point at pixel offset d from the centre moves to R_2(angle) d, in x right, y down. What comes from
    outside is the nearest border pixel, or 0 with ``padding="zeros"`` (for masks).
    """
    return move_images(images, angles=angles, padding=padding)


def move_images(
    images: Tensor,
    *,
    angles: Tensor,
    shift_px: Tensor | None = None,
    zoom: Tensor | None = None,
    padding: str = "border",
) -> Tensor:
    """Images (B,C,S,S) centred on the pixel ``shift_px`` (B,2) beside their centre, then zoomed and rolled.

    A point at offset d from the centre moves to zoom R_2(angle) (d - shift), in x right, y down; padding as in
    ``roll_images``.
    """
    angles = angles.to(images.device, torch.float32)
    scale = torch.ones_like(angles) if zoom is None else 1.0 / zoom.to(images.device, torch.float32)
    zero = angles.new_zeros(len(angles), 2)
    # In units of half the distance between the outermost pixel centres, as affine_grid counts.
    shift = zero if shift_px is None else shift_px.to(zero) * (2.0 / (images.shape[-1] - 1))
    cos, sin = scale * angles.cos(), scale * angles.sin()
    back = torch.stack([cos, sin, shift[:, 0], -sin, cos, shift[:, 1]], -1).view(-1, 2, 3)  # target -> source
    with torch.autocast(images.device.type, enabled=False):
        # align_corners: pixel centres at integers, the centre of rotation at (S-1)/2.
        grid = F.affine_grid(back, list(images.shape), align_corners=True)
        return F.grid_sample(images.float(), grid, padding_mode=padding, align_corners=True)


def aim_matrices(shift_px: Tensor, focal_px: Tensor) -> Tensor:
    """Rotations (B,3,3) from a crop's frame to that of the crop centred ``shift_px`` (B,2) beside its centre.

    About y, then about x, so that the ray through that pixel becomes the optical axis; ``focal_px`` (B,).
    """
    x, y = shift_px.unbind(-1)
    yaw, pitch = torch.atan2(x, focal_px), torch.atan2(y, torch.hypot(focal_px, x))
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    c, s = yaw.cos(), yaw.sin()
    about_y = torch.stack([c, zero, -s, zero, one, zero, s, zero, c], -1).view(-1, 3, 3)
    c, s = pitch.cos(), pitch.sin()
    about_x = torch.stack([one, zero, zero, zero, c, -s, zero, s, c], -1).view(-1, 3, 3)
    return about_x @ about_y


def _recolour_patches(
    images: Tensor, masks: Tensor, *, generator: torch.Generator, strength: float
) -> Tensor:
    """Persons whose colours change by place: soft cells around random sites, of which one stays as it was."""
    count, _, size, _ = images.shape
    # Sites spread more up and down than sideways: garments follow one another along the body.
    sites = _uniform((count, PATCHES, 2), 0, 1, generator) * torch.tensor([0.5, 1.0]) + torch.tensor(
        [0.25, 0.0]
    )
    axis = torch.linspace(0, 1, size)
    across = (axis - sites[..., :1]).square()  # (B,K,S)
    down = (axis - sites[..., 1:]).square()
    distance = (down[..., :, None] + across[..., None, :]).flatten(2)
    weights = (-distance / 0.01).softmax(1).to(images.device)
    matrices, offsets = _draw_affine((count, PATCHES), generator=generator, strength=0.7 * strength)
    matrices[:, 0], offsets[:, 0] = torch.eye(3), 0.0
    painted = _painted(images.flatten(2), weights, matrices.to(images.device), offsets.to(images.device))
    return torch.lerp(images, painted.view_as(images).clamp(0, 1), masks)


def _painted(pixels: Tensor, weights: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """sum_k weights[k] (matrices[k] pixels + offsets[k]): pixels (B,3,P), weights (B,K,P) -> (B,3,P)."""
    total = torch.zeros_like(pixels)
    for kind in range(offsets.shape[1]):  # one at a time stays in the cache: twice as fast as all at once
        painted = torch.baddbmm(offsets[:, kind, :, None], matrices[:, kind], pixels)
        total.addcmul_(painted, weights[:, kind : kind + 1])
    return total


def _draw_affine(
    shape: tuple[int, ...], *, generator: torch.Generator, strength: float
) -> tuple[Tensor, Tensor]:
    """Colour matrices (*shape,3,3) = gain . saturation . hue rotation, and offsets (*shape,3)."""
    angle = math.pi * min(1.0, strength) * _uniform(shape, -1, 1, generator)
    saturation = torch.exp(strength * _uniform(shape, -0.7, 0.5, generator))
    gain = torch.exp(0.45 * strength * torch.randn(*shape, 3, generator=generator))
    gain = gain * torch.exp(0.3 * strength * torch.randn(*shape, 1, generator=generator))
    offset = 0.12 * strength * torch.randn(*shape, 3, generator=generator)
    grey = torch.tensor(GREY).expand(3, 3)
    tint = (saturation[..., None, None]) * (_hue_rotation(angle) - grey) + grey
    return gain[..., None] * tint, offset


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotations about the grey axis (1,1,1)/sqrt(3) by ``angle``, by Rodrigues' formula: (*,3,3)."""
    axis = 1.0 / math.sqrt(3.0)
    cross = axis * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
    return cos * torch.eye(3) + sin * cross + (1.0 - cos) / 3.0


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)
