"""The arm ``sync``, and the same pretext beside another: Jenni and Favaro (ACCV 2020), no camera needed.

Two views of one instant, both mirrored or neither, belong together; views of two instants do not, nor do
two of one instant of which one is mirrored. A small network tells from L_3D of both, fused by a product.
It is asked which of two pairs of a quadruple belongs together rather than whether one does: what clothes and
build add to the likeness of all its pairs drops out, and is not there to be learned first.
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
SHARPNESS = 5.0
"""Likeness, at the start, of two views whose features are the same."""
FIRST, SECOND = (0, 2, 0, 0, 1, 1), (1, 3, 2, 3, 2, 3)
"""The six pairs of a quadruple's images; the first two show one instant each."""
SAME_INSTANT = 2


class Pairs(NamedTuple):
    """The six pairs of each of Q quadruples: rows ``first`` and ``second``, and what they are, bool, all (Q,6).

    ``together``: one instant, both mirrored or neither; ``flipped``: one instant, one of the two mirrored;
    ``apart``: two instants and two cameras, both mirrored or neither. One camera at two instants is none of
    these, for two views of one instant are never one camera's: it would teach that the same side of a person
    means another time. Nor are two instants of which one is mirrored: too easy.
    """

    first: Tensor
    second: Tensor
    together: Tensor
    flipped: Tensor
    apart: Tensor


def pairs_of(mirrored: Tensor, camera: Tensor) -> Pairs:
    """The pairs of a batch of quadruples, of which ``mirrored`` (B,) are mirrored, by ``camera`` (B,)."""
    starts = torch.arange(0, len(mirrored), 4, device=mirrored.device)[:, None]
    first, second = (starts + torch.tensor(x, device=starts.device) for x in (FIRST, SECOND))
    alike = mirrored[first] == mirrored[second]
    one_instant = torch.zeros_like(alike)
    one_instant[:, :SAME_INSTANT] = True
    apart = ~one_instant & alike & (camera[first] != camera[second])
    return Pairs(first, second, one_instant & alike, one_instant & ~alike, apart)


def sync_terms(likeness: Tensor, pairs: Pairs) -> dict[str, Tensor]:
    """Cross-entropy and accuracy of "which of two pairs belongs together" from their ``likeness`` (Q,6).

    Each pair that does is compared with each of its quadruple that does not. Flipped pairs and pairs apart
    have half of the weight each, or one kind all of it where there is no other. Chance is log 2 and 0.5.
    """
    margins = likeness[:, :, None] - likeness[:, None, :]  # (Q,6,6): of the first over the second
    losses, right = F.softplus(-margins), (margins.detach() > 0).float()
    kinds = [pairs.together[:, :, None] & negative[:, None, :] for negative in (pairs.flipped, pairs.apart)]
    kinds = [kind for kind in kinds if kind.any()]
    return {
        name: torch.stack([values[kind].mean() for kind in kinds]).mean()
        for name, values in (("sync", losses), ("sync_accuracy", right))
    }


class PairClassifier(nn.Module):
    """Points of views (B,200,3) -> likeness (Q,6), float32, of the pairs of rows ``first`` and ``second``.

    It starts as the correlation of normalised features, to which ``judge`` adds: from the first step on, likeness
    says in which direction to change.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(3 * N_POINTS, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(inplace=True),
            nn.Linear(FEATURES, FEATURES, bias=False),
            nn.BatchNorm1d(FEATURES, affine=False),
        )
        self.weights = nn.Linear(FEATURES, 1, bias=False)
        nn.init.constant_(self.weights.weight, SHARPNESS / FEATURES)
        self.judge = nn.Sequential(
            nn.Linear(FEATURES, FEATURES), nn.ReLU(inplace=True), nn.Linear(FEATURES, 1, bias=False)
        )
        nn.init.normal_(cast(nn.Linear, self.judge[-1]).weight, std=1e-3)

    def forward(self, points: Tensor, first: Tensor, second: Tensor) -> Tensor:
        features = self.features(points.flatten(1))
        fused = features[first] * features[second]
        return cast(Tensor, self.weights(fused) + self.judge(fused)).squeeze(-1).float()


class Synchronised(ResidualArm):
    """Adds the pretext to the arm that follows it among the bases of a class."""

    synchronised: ClassVar[bool] = True

    def __init__(self, *, crop_size_px: int, track: str) -> None:
        super().__init__(crop_size_px=crop_size_px, track=track)
        self.pairs = PairClassifier()

    def loss(
        self, latent: Latent, lesson: Lesson, *, feature_loss: FeatureLoss, weights: LossWeights
    ) -> dict[str, Tensor]:
        """The other arm's terms and the pretext's (`sync_terms`)."""
        terms = super().loss(latent, lesson, feature_loss=feature_loss, weights=weights)
        pairs = pairs_of(lesson.mirrored, lesson.camera)
        terms |= sync_terms(self.pairs(latent.points, pairs.first, pairs.second), pairs)
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
