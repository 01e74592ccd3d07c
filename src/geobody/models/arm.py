"""What every arm of ``encdec`` is: an encoder of an image to points and appearance, and a loss that trains it.

    image -> L_3D (200 points in the crop frame), L_app (128 numbers)
    R_target R_source^T turns L_3D into the target's crop frame; arms that draw show it there.

An arm is a module of its own with a subclass; ``geobody.models.encoder_decoder`` names them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from geobody.errors import DataError
from geobody.losses import FeatureLoss
from geobody.models.tracks import network_input

N_POINTS = 200
N_APPEARANCE = 128


class Latent(NamedTuple):
    """L_3D, (B,200,3), and L_app, (B,128), float32.

    ``heat`` (B,200,s*s), logits over the cells of a map of the crop, in arms that find points in the picture: where.
    """

    points: Tensor
    appearance: Tensor
    heat: Tensor | None = None


@dataclass(frozen=True)
class Cameras:
    """Virtual cameras of B crops, which look at the point that a crop is centred on.

    ``focal`` (B,): focal length in sides of the crop; ``depth_m`` (B,): distance of that point, in metres.
    """

    focal: Tensor
    depth_m: Tensor


@dataclass(frozen=True)
class Views:
    """Views of persons: images and backgrounds (B,3,S,S), masks (B,1,S,S), all in [0,1], and cameras."""

    images: Tensor
    backgrounds: Tensor
    masks: Tensor
    cameras: Cameras

    def repeated(self, times: int) -> "Views":
        """All views ``times`` times, one after another."""
        images, backgrounds, masks = (
            x.repeat(times, 1, 1, 1) for x in (self.images, self.backgrounds, self.masks)
        )
        cameras = Cameras(self.cameras.focal.repeat(times), self.cameras.depth_m.repeat(times))
        return Views(images, backgrounds, masks, cameras)


@dataclass(frozen=True)
class Lesson:
    """A batch of quadruples: images 4q and 4q+1 show one instant of a person, 4q+2 and 4q+3 another.

    ``seen`` (B,3,S,S) is what the encoder got of ``views``, which are unspoiled. ``R`` (B,3,3) maps the
    world to the crop frame; it is improper where ``mirrored`` (B,) says that left and right are exchanged.
    ``camera`` (B,) numbers the cameras. ``source`` and ``appearance`` (B,) are the rows whose L_3D and L_app
    each view is drawn from; a source is mirrored as its target is.
    """

    seen: Tensor
    views: Views
    R: Tensor
    mirrored: Tensor
    camera: Tensor
    source: Tensor
    appearance: Tensor

    @property
    def partner(self) -> Tensor:
        """The row (B,) of the other view of the same instant; the view itself if that is mirrored otherwise."""
        index = torch.arange(len(self.seen), device=self.mirrored.device)
        return torch.where(self.mirrored == self.mirrored[index ^ 1], index ^ 1, index)

    def turned(self, points: Tensor, source: Tensor) -> Tensor:
        """Points (B,N,3) of the rows ``source`` (B,), each in the frame of the view with its place."""
        return turn_points(points[source], self.R @ self.R[source].transpose(1, 2))


@dataclass(frozen=True)
class LossWeights:
    """What each term counts in "total"; 10 brings the squared error (about 0.02) to the others (0.1-0.2)."""

    mse: float = 10.0
    feature: float = 2.0
    mask: float = 0.5
    sync: float = 1.0

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "LossWeights":
        """The weights that the values of ``params.yaml: encdec`` say: ``mse`` is its ``mse_weight``, and so on."""
        return cls(**{field.name: params[f"{field.name}_weight"] for field in fields(cls)})


class EncoderDecoder(nn.Module, ABC):
    """Base of the arms. ``config`` holds the keyword arguments that build the arm again."""

    arm: ClassVar[str]
    trained: ClassVar[bool] = True
    """Whether the stage takes any step."""
    equivariant: ClassVar[bool] = True
    """Whether L_3D turns with the person, so that embeddings may be turned with their labels."""
    synchronised: ClassVar[bool] = False
    """Whether it compares views, so that the room may not tell which belong together."""

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__()
        self.crop_size_px = crop_size_px
        self.track = track

    @property
    def config(self) -> dict[str, Any]:
        return {"arm": self.arm, "crop_size_px": self.crop_size_px, "track": self.track}

    def require_crop_size(self, crop_size_px: int, path: Path) -> None:
        """Raises ``DataError``, naming the network's file ``path``, when crops have another size."""
        if crop_size_px != self.crop_size_px:
            raise DataError(
                path, f"is for crops of {self.crop_size_px} px, not {crop_size_px}", "run: dvc repro encdec"
            )

    def network_input(self, images: Tensor, masks_diff: Tensor) -> Tensor:
        """What ``encode`` expects of images (B,3,S,S) and difference masks (B,1,S,S): the track's view.

        "rgb" are the images; in "masked" the background is black.
        """
        return network_input(images, masks_diff, track=self.track)

    @abstractmethod
    def encode(self, images: Tensor) -> Latent:
        """L_3D and L_app of inputs (B,3,S,S)."""

    def loss(
        self, latent: Latent, lesson: Lesson, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        """Terms of a lesson whose images were encoded to ``latent``; "total" is minimised: here, nothing."""
        return {"total": latent.points.new_zeros(())}


class DrawingArm(EncoderDecoder):
    """An arm that shows the person to another camera."""

    @abstractmethod
    def render(self, latent: Latent, backgrounds: Tensor, cameras: Cameras) -> Tensor:
        """Images (B,3,S,S) in [0,1], float32, of a latent in the target's frame before its background."""

    @abstractmethod
    def drawing_loss(
        self, latent: Latent, target: Views, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        """Terms of the reconstruction of ``target`` from a latent in its frame; "total" is minimised."""

    def loss(
        self, latent: Latent, lesson: Lesson, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        turned = Latent(lesson.turned(latent.points, lesson.source), latent.appearance[lesson.appearance])
        return self.drawing_loss(turned, lesson.views, feature_loss=feature_loss, weights=weights)


def turn_points(points: Tensor, R_source_to_target: Tensor) -> Tensor:
    """Points (B,N,3) of the source's crop frame in the target's: x -> R x."""
    with torch.autocast(points.device.type, enabled=False):
        return points.float() @ R_source_to_target.float().transpose(1, 2)
