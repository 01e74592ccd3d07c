"""What every arm of ``encdec`` is: an encoder to points and appearance, a decoder to another view.

    image -> L_3D (200 points in the crop frame, no unit), L_app (128 numbers)
    R_target R_source^T turns L_3D into the target's crop frame; the decoder draws it there.

An arm is a module of its own with a subclass; ``geobody.models.encoder_decoder`` names them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from geobody.errors import DataError, ParamsError
from geobody.losses import FeatureLoss

N_POINTS = 200
N_APPEARANCE = 128


class Latent(NamedTuple):
    """L_3D, (B,200,3), and L_app, (B,128), float32."""

    points: Tensor
    appearance: Tensor


@dataclass(frozen=True)
class Views:
    """Target views: images and backgrounds (B,3,S,S), masks (B,1,S,S), all in [0,1]."""

    images: Tensor
    backgrounds: Tensor
    masks: Tensor


@dataclass(frozen=True)
class LossWeights:
    """What each term counts in "total"; 10 brings the squared error (about 0.02) to the others (0.1-0.2)."""

    mse: float = 10.0
    feature: float = 2.0
    mask: float = 0.5


class EncoderDecoder(nn.Module, ABC):
    """Base of the arms. ``config`` holds the keyword arguments that build the arm again."""

    arm: str

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__()
        if crop_size_px % 16:
            raise ParamsError(
                f"params.yaml: crops.size_px: value {crop_size_px}: encdec needs a multiple of 16"
            )
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
        return images * masks_diff if self.track == "masked" else images

    @abstractmethod
    def encode(self, images: Tensor) -> Latent:
        """L_3D and L_app of inputs (B,3,S,S)."""

    @abstractmethod
    def render(self, latent: Latent, backgrounds: Tensor) -> Tensor:
        """Images (B,3,S,S) in [0,1], float32, of a latent in the target's frame before its background."""

    @abstractmethod
    def loss(
        self, latent: Latent, target: Views, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        """Terms of the reconstruction of ``target`` from a latent in its frame; "total" is minimised."""


def turn_points(points: Tensor, R_source_to_target: Tensor) -> Tensor:
    """Points (B,N,3) of the source's crop frame in the target's: x -> R x."""
    with torch.autocast(points.device.type, enabled=False):
        return points.float() @ R_source_to_target.float().transpose(1, 2)
