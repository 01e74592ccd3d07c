"""The arm ``sync``, and the same pretext beside another: Jenni and Favaro (ACCV 2020), no camera needed.

Two views of one instant, both mirrored or neither, belong together; views of two instants do not, nor do
two of one instant of which one is mirrored. A small network tells from L_3D of both, fused by a product.
What it must know for that is the pose, and left from right; where the camera stands it need not know.

Training takes care that nothing but the person tells: rooms are exchanged and mirrored at random
(`encoder_decoder_training`).
"""

from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geobody.losses import FeatureLoss
from geobody.models.arm import N_POINTS, Latent, Lesson, LossWeights
from geobody.models.explicit import Explicit
from geobody.models.residual_encoder import ResidualArm
from geobody.models.view_synthesis import ViewSynthesis

FEATURES = 256
FIRST, SECOND = (0, 2, 0, 0, 1, 1), (1, 3, 2, 3, 2, 3)
"""The six pairs of a quadruple's images; the first two show one instant each."""
SAME_INSTANT = 2


class Pairs(NamedTuple):
    """Rows ``first`` and ``second`` (P,), what is true of them (P,), 1 or 0, and weights (P,) of sum 1."""

    first: Tensor
    second: Tensor
    together: Tensor
    weights: Tensor


def pairs_of(mirrored: Tensor) -> Pairs:
    """The pairs of a batch of quadruples of which ``mirrored`` (B,) are mirrored.

    Half of the weight is on views that belong together; the other half is shared by pairs of which one is
    mirrored and pairs of two instants. Two instants of which one is mirrored count nothing: too easy.
    """
    starts = torch.arange(0, len(mirrored), 4, device=mirrored.device)[:, None]
    first, second = (starts + torch.tensor(x, device=starts.device) for x in (FIRST, SECOND))
    alike = mirrored[first] == mirrored[second]
    one_instant = torch.zeros_like(alike)
    one_instant[:, :SAME_INSTANT] = True
    together, flipped, apart = one_instant & alike, one_instant & ~alike, ~one_instant & alike
    weights = torch.zeros_like(first, dtype=torch.float32)
    negatives = [kind for kind in (flipped, apart) if kind.any()]
    weights[together] = 0.5 / together.sum().clamp_min(1)
    for kind in negatives:
        weights[kind] = 0.5 / len(negatives) / kind.sum()
    return Pairs(first.flatten(), second.flatten(), together.flatten().float(), weights.flatten())


class PairClassifier(nn.Module):
    """Points of two views (P,200,3) -> logits (P,) that they belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(3 * N_POINTS, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(inplace=True),
            nn.Linear(FEATURES, FEATURES),
        )
        self.judge = nn.Sequential(
            nn.BatchNorm1d(FEATURES),
            nn.Linear(FEATURES, FEATURES),
            nn.ReLU(inplace=True),
            nn.Linear(FEATURES, 1),
        )

    def forward(self, points: Tensor, first: Tensor, second: Tensor) -> Tensor:
        features = self.features(points.flatten(1))
        return cast(Tensor, self.judge(features[first] * features[second])).squeeze(1).float()


class Synchronised(ResidualArm):
    """Adds the pretext to the arm that follows it among the bases of a class."""

    synchronised: ClassVar[bool] = True

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__(crop_size_px=crop_size_px, track=track)
        self.pairs = PairClassifier()

    def loss(
        self, latent: Latent, lesson: Lesson, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        """The other arm's terms, cross-entropy of the pairs and their accuracy, which is 0.5 by chance."""
        terms = super().loss(latent, lesson, feature_loss=feature_loss, weights=weights)
        pairs = pairs_of(lesson.mirrored)
        logits = self.pairs(latent.points, pairs.first, pairs.second)
        losses = F.binary_cross_entropy_with_logits(logits, pairs.together, reduction="none")
        right = ((logits.detach() > 0) == (pairs.together > 0)).float()
        terms["sync"] = (pairs.weights * losses).sum()
        terms["sync_accuracy"] = (pairs.weights * right).sum()
        terms["total"] = terms["total"] + weights.sync * terms["sync"]
        return terms


class Sync(Synchronised):
    """The pretext alone. L_app is a by-product that nothing has shaped."""

    arm: ClassVar[str] = "sync"
    equivariant: ClassVar[bool] = False


class ViewSynthesisSync(Synchronised, ViewSynthesis):
    """`ViewSynthesis` with the pretext."""

    arm: ClassVar[str] = "rhodin+sync"


class ExplicitSync(Synchronised, Explicit):
    """`Explicit` with the pretext."""

    arm: ClassVar[str] = "explicit+sync"
