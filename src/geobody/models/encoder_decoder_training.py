"""Training of the encoder-decoder: which views teach which, and what is done to them first.

A batch is made of quadruples: two cameras of one instant of a person and two cameras of another. Each
of the four is a target: it is drawn from L_3D of itself or of its partner, turned by the known
rotation, and from L_app of the other instant. So each image is encoded once and drawn once.

Only images, backgrounds, masks, rotations and the identities of subject and instant are read: no pose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geobody.data.augmentation import (
    ColourChange,
    draw_colours,
    draw_turns,
    roll_images,
    roll_matrices,
    shuffle_backgrounds,
    spoil,
)
from geobody.data.crops import CropShards
from geobody.data.labels import split_labels
from geobody.data.mirroring import mirror_images
from geobody.errors import DataError
from geobody.losses import FeatureLoss, make_feature_loss
from geobody.models.arm import EncoderDecoder, Lesson, LossWeights, Views
from geobody.models.encoder_decoder import load_views, new_encoder_decoder
from geobody.models.tracks import known_masks
from geobody.training.curves import HEADER_KEY
from geobody.training.determinism import make_fabric
from geobody.training.loop import TOTAL, Batch, RowSampler, fit
from geobody.training.schedule import Schedule

QUAD = 4
"""Images of a quadruple."""
MIRRORED_ALONE = 0.5
"""Share of the quadruples whose fourth view is mirrored alone, for arms that compare views."""
MIRROR = (-1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Recipe:
    """How a batch is drawn and changed; all zero: cross-view targets of unchanged images.

    ``same_view_fraction`` of the targets are drawn from their own L_3D. ``colour_strength`` recolours
    persons and light, alike in the four images of a quadruple (see `data.augmentation`);
    ``spoil_strength`` adds noise and holes to what the encoder sees, and a share
    ``background_fraction`` of that stands before another item's background. ``mirror`` mirrors half of the
    quadruples. ``turn_deg`` is the standard deviation of each view's roll. L_app comes from another
    instant of the same "sequence", in which clothes stay the same, or of any of the "subject"'s.
    """

    same_view_fraction: float = 0.0
    colour_strength: float = 0.0
    spoil_strength: float = 0.0
    background_fraction: float = 0.0
    mirror: bool = False
    turn_deg: float = 0.0
    appearance_from: str = "sequence"

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "Recipe":
        """The recipe that the values of ``params.yaml: encdec`` say."""
        return cls(**{field.name: params[field.name] for field in fields(cls)})


THESIS_RECIPE = Recipe(turn_deg=5.0, appearance_from="subject")


class Quadruples:
    """Row numbers for batches, drawn over instants that every camera saw."""

    def __init__(self, views: NDArray[np.int64], looks: NDArray[np.integer]) -> None:
        """``views`` (I,C) row numbers, ``looks`` (I,): equal for instants that show the same appearance."""
        self.views = views
        self.looks = looks
        self._others = {int(look): np.flatnonzero(looks == look) for look in np.unique(looks)}

    @classmethod
    def of(cls, crops: CropShards, views: NDArray[np.int64], *, appearance_from: str) -> "Quadruples":
        """Quadruples over ``views``; a person looks the same in a "sequence", or as a "subject" always."""
        names = ("subject",) if appearance_from == "subject" else ("subject", "action", "subaction")
        keys = np.stack([crops.table[name][views[:, 0]] for name in names], axis=1)
        return cls(views, np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1))

    def rows(self, instants: NDArray[np.int64], generator: torch.Generator) -> NDArray[np.int64]:
        """Rows (4 Q,) for Q instants: [cameras a, b of the instant, c, d of another that looks the same]."""
        cameras = self.views.shape[1]
        draws = torch.rand(len(instants), 1 + 2 * cameras, generator=generator).numpy()
        first, second = (draws[:, 1 + k * cameras : 1 + (k + 1) * cameras].argsort(1)[:, :2] for k in (0, 1))
        pools = [self._others[int(look)] for look in self.looks[instants]]
        # Stepping on by 1..n-1 from the instant's own place never returns to it.
        others = np.array(
            [
                pool[(np.searchsorted(pool, instant) + 1 + int(draw * max(1, len(pool) - 1))) % len(pool)]
                for pool, instant, draw in zip(pools, instants, draws[:, 0], strict=True)
            ]
        )
        quads = [self.views[instants[:, None], first], self.views[others[:, None], second]]
        return np.concatenate(quads, axis=1).reshape(-1)


def held_out_instants(crops: CropShards, *, fraction: float) -> NDArray[np.int64]:
    """Ids of training subjects' instants kept from training: the last ``fraction`` of each sequence."""
    rows = crops.rows(split="train")
    subjects = [int(subject) for subject in np.unique(crops.table["subject"][rows])]
    split = split_labels(crops.table, subjects=subjects, held_out_fraction=fraction)
    return np.unique(crops.table["instant"][split.held_out]).astype(np.int64)


def train_encoder_decoder(
    crops: CropShards,
    *,
    subjects: Sequence[int] | None,
    arm: str,
    track: str,
    feature_loss: str,
    feature_weights: Path,
    recipe: Recipe,
    weights: LossWeights,
    held_out_fraction: float,
    schedule: Schedule,
    seed: int,
    precision: str,
    threads: int,
    device: str,
    scratch: Path,
    curves: Path,
) -> EncoderDecoder:
    """Returns the arm trained on the unlabelled views of the training subjects, frozen, on the CPU.

    ``subjects`` are those whose images may be used at all; None: all training subjects. The arm ``thesis``
    has a recipe and weights of its own; ``recipe`` and ``weights`` are for the others. A batch of ``schedule`` are
    images, four of each quadruple. ``scratch`` takes no step, and its curves are a header.
    Raises ``DataError`` when no instant was seen by two cameras.
    """
    fabric = make_fabric(precision=precision, threads=threads, device=device)
    views = crops.views(split="train", subjects=subjects)
    if len(views):
        held_out = held_out_instants(crops, fraction=held_out_fraction)
        views = views[~np.isin(crops.table["instant"][views[:, 0]], held_out)]
    if not len(views) or views.shape[1] < 2:
        raise DataError("data/crops", "holds no instant of two views", "take more cameras into the data set")
    losses = make_feature_loss(feature_loss, weights=feature_weights)
    network = new_encoder_decoder(arm=arm, crop_size_px=crops.crop_size_px, track=track, seed=seed)
    if not network.trained:
        curves.parent.mkdir(parents=True, exist_ok=True)
        curves.write_text(f"{HEADER_KEY},{TOTAL}\n")
        return network
    network.requires_grad_(True)
    recipe = recipe_of(network, recipe)
    quadruples = Quadruples.of(crops, views, appearance_from=recipe.appearance_from)

    def loss_step(batch: Batch) -> Mapping[str, Tensor]:
        return view_loss(
            network,
            batch,
            crops=crops,
            quadruples=quadruples,
            recipe=recipe,
            feature_loss=losses,
            weights=weights,
            device=fabric.device,
        )

    fit(
        modules={"encdec": network},
        loss_step=loss_step,
        sampler=RowSampler(np.arange(len(views)), seed),
        schedule=replace(schedule, batch_size=schedule.batch_size // QUAD),
        seed=seed,
        fabric=fabric,
        scratch=scratch,
        curves=curves,
        desc="encdec",
    )
    return network.cpu().eval().requires_grad_(False)


def view_loss(
    network: EncoderDecoder,
    batch: Batch,
    *,
    crops: CropShards,
    quadruples: Quadruples,
    recipe: Recipe,
    feature_loss: FeatureLoss,
    weights: LossWeights,
    device: torch.device,
) -> Mapping[str, Tensor]:
    """The loss terms of one batch; ``batch.rows`` are instants (rows of ``quadruples.views``)."""
    lesson = draw_lesson(network, batch, crops=crops, quadruples=quadruples, recipe=recipe, device=device)
    return network.loss(network.encode(lesson.seen), lesson, feature_loss=feature_loss, weights=weights)


@torch.no_grad()
def draw_lesson(
    network: EncoderDecoder,
    batch: Batch,
    *,
    crops: CropShards,
    quadruples: Quadruples,
    recipe: Recipe,
    device: torch.device,
) -> Lesson:
    """The views of a batch, changed as ``recipe`` says, and who is drawn from whom."""
    generator = batch.generator
    rows = quadruples.rows(batch.rows, generator)
    mirrored = draw_mirrored(
        len(rows), quadruples=recipe.mirror, alone=network.synchronised, generator=generator
    )
    source, appearance = draw_partners(mirrored, same_view=recipe.same_view_fraction, generator=generator)
    angles = draw_turns(len(rows), std_deg=recipe.turn_deg, generator=generator).to(device)
    mirrored, source, appearance = (x.to(device) for x in (mirrored, source, appearance))
    with torch.autocast(device.type, enabled=False):
        target, masks_diff, rotations = load_views(crops, rows, device)
        target, masks_diff, rotations = _mirror(target, masks_diff, rotations, mirrored)
        if recipe.turn_deg:
            target, masks_diff, rotations = _roll(target, masks_diff, rotations, angles)
        if recipe.colour_strength:
            change = draw_colours(len(rows) // QUAD, generator=generator, strength=recipe.colour_strength)
            target = _recolour(target, change, known_masks(target.masks, masks_diff, track=network.track))
        rooms = target.backgrounds
        if network.synchronised:
            coins = torch.rand(len(rows), generator=generator).to(device) < 0.5
            rooms = mirror_images(rooms, coins ^ mirrored)  # the coin alone says how the room stands
        seen = shuffle_backgrounds(
            target.images,
            known_masks(target.masks, masks_diff, track=network.track),
            rooms,
            generator=generator,
            probability=recipe.background_fraction,
        )
        if recipe.spoil_strength:
            seen = spoil(seen, generator=generator, strength=recipe.spoil_strength)
        seen = network.network_input(seen, masks_diff).contiguous(memory_format=torch.channels_last)
    return Lesson(
        seen=seen,
        views=target,
        R=rotations,
        mirrored=mirrored,
        camera=torch.from_numpy(crops.table["camera"][rows].astype(np.int64)).to(device),
        source=source,
        appearance=appearance,
    )


def recipe_of(network: EncoderDecoder, recipe: Recipe) -> Recipe:
    """The recipe by which the arm is trained: ``recipe``, but for what the arm itself fixes."""
    if network.arm == "thesis":
        return THESIS_RECIPE
    if network.synchronised:
        fraction = recipe.background_fraction if network.track == "masked" else 1.0
        return replace(recipe, mirror=True, appearance_from="sequence", background_fraction=fraction)
    return recipe


def draw_mirrored(count: int, *, quadruples: bool, alone: bool, generator: torch.Generator) -> Tensor:
    """Which of ``count`` images are mirrored, bool: whole quadruples, and then the fourth of some alone."""
    coins = torch.rand(2, count // QUAD, generator=generator)
    mirrored = torch.zeros(count // QUAD, QUAD, dtype=torch.bool)
    if quadruples:
        mirrored[coins[0] < 0.5] = True
    if alone:
        mirrored[:, -1] ^= coins[1] < MIRRORED_ALONE
    return mirrored.flatten()


def draw_partners(mirrored: Tensor, *, same_view: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each image its sources of L_3D (itself or its partner) and of L_app (the other instant).

    ``mirrored`` (B,) bool: a view whose partner is not mirrored as it is has itself as source.
    """
    index = torch.arange(len(mirrored))
    draws = torch.rand(2, len(mirrored), generator=generator)
    alone = mirrored != mirrored[index ^ 1]
    source = torch.where((draws[0] < same_view) | alone, index, index ^ 1)
    appearance = (index ^ 2) ^ (draws[1] < 0.5).long()
    return source, appearance


def _mirror(
    target: Views, masks_diff: Tensor, rotations: Tensor, mirrored: Tensor
) -> tuple[Views, Tensor, Tensor]:
    """Exact because a crop's principal point is its centre: x becomes -x in pictures and in the crop frame."""
    images, backgrounds, masks, masks_diff = (
        mirror_images(x, mirrored) for x in (target.images, target.backgrounds, target.masks, masks_diff)
    )
    signs = torch.where(mirrored[:, None], rotations.new_tensor(MIRROR), 1.0)
    turned = replace(target, images=images, backgrounds=backgrounds, masks=masks)
    return turned, masks_diff, signs[..., None] * rotations


def _roll(
    target: Views, masks_diff: Tensor, rotations: Tensor, angles: Tensor
) -> tuple[Views, Tensor, Tensor]:
    pictures = roll_images(torch.cat([target.images, target.backgrounds], 1), angles)
    masks = roll_images(torch.cat([target.masks, masks_diff], 1), angles, padding="zeros")
    turned = replace(target, images=pictures[:, :3], backgrounds=pictures[:, 3:], masks=masks[:, :1])
    return turned, masks[:, 1:], roll_matrices(angles) @ rotations


def _recolour(target: Views, change: ColourChange, masks: Tensor) -> Views:
    """One change for the four views of a quadruple, or the target could not be drawn from its sources."""
    change = change.repeat(QUAD)
    images = change.relight(change.recolour(target.images, masks))
    return replace(target, images=images, backgrounds=change.relight(target.backgrounds))
