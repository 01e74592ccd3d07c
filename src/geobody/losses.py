"""Losses on images and masks: means over the batch, in float32, each a scalar.

Images are (B,3,S,S) in [0,1], masks (B,1,S,S) in [0,1].
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from geobody.errors import DataError, ParamsError
from geobody.models.resnet18 import ResNet18Features
from geobody.training.checkpoint import load_weights

FeatureLoss = Callable[[Tensor, Tensor], Tensor]
GRADIENT_LEVELS = 3


def person_weighted_mse(
    predicted: Tensor, target: Tensor, masks: Tensor, *, background_weight: float
) -> Tensor:
    """Weighted mean of squared differences; a pixel weighs its mask plus ``background_weight``.

    A person covers about a tenth of a crop, so that a plain mean is content with a blur there.
    """
    weights = masks + background_weight
    error = (predicted - target).square().mean(1, keepdim=True)
    return (weights * error).sum() / weights.sum()


def multi_scale_gradient(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the images' gradients, over halvings of their size.

    Stands in for a feature loss where no pretrained network is at hand: it sees edges, not brightness.
    """
    total = predicted.new_zeros(())
    for level in range(GRADIENT_LEVELS):
        if level:
            predicted, target = F.avg_pool2d(predicted, 2), F.avg_pool2d(target, 2)
        difference = predicted - target
        for axis in (-2, -1):
            total = total + difference.diff(dim=axis).abs().mean()
    return total / (2 * GRADIENT_LEVELS)


def mask_bce(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy of masks against ``logits``."""
    return F.binary_cross_entropy_with_logits(logits.float(), masks)


def mask_dice(alpha: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice's coefficient 2 |A.M| / (|A|^2 + |M|^2), mean over the batch: sees small persons as large.

    Squares in the denominator make it 0 for masks that agree, soft edges included (Milletari et al.,
    V-Net, 2016, eq. in section 3).
    """
    overlap = (alpha * masks).flatten(1).sum(1)
    total = alpha.square().flatten(1).sum(1) + masks.square().flatten(1).sum(1)
    return (1.0 - (2.0 * overlap + 1e-6) / (total + 1e-6)).mean()


def make_feature_loss(name: str, *, weights: Path) -> FeatureLoss:
    """Returns the loss called ``name``: "gradient", or "resnet18" with ImageNet weights from a file.

    Raises ``ParamsError`` for another name and ``DataError`` when the weights are not there: it never
    falls back silently.
    """
    if name == "gradient":
        return multi_scale_gradient
    if name != "resnet18":
        raise ParamsError(f"params.yaml: encdec.feature_loss: value {name!r}: one of gradient, resnet18")
    if not weights.is_file():
        raise DataError(
            weights,
            "is missing, and encdec.feature_loss: resnet18 needs it",
            "put ImageNet's ResNet-18 there as safetensors, or use encdec.feature_loss: gradient",
        )
    network = ResNet18Features()
    state, _ = load_weights(weights, cure="save it with geobody.training.checkpoint.save_weights")
    missing = network.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise DataError(
            weights, f"lacks {missing[0]} of a ResNet-18", "save torchvision's resnet18 state there"
        )
    network.eval().requires_grad_(False)

    def loss(predicted: Tensor, target: Tensor) -> Tensor:
        network.to(predicted.device)
        with torch.no_grad():
            seen = network(target)
        pairs = zip(network(predicted), seen, strict=True)
        return torch.stack([F.mse_loss(a.float(), b.float()) for a, b in pairs]).mean()

    return loss
