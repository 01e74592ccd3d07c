"""Training of encoder and pose head as one: on labels, then on what several views agree on as well.

``fine_tuned`` sees the labelled images alone. ``semi_supervised`` goes on in rounds: the network predicts every
unlabelled view of the training subjects, the joints of an instant are looked for where the heat maps of its views
meet (or their predictions fused) and fitted to its silhouettes (``geobody.multiview``), and the network trains on
labels and fits together. With ``first_share`` 0 the arm as its pretext left it predicts first, through the head that
the labels give for its embeddings, which takes few labels. Of what is unlabelled it reads images, masks, cameras, and
which images show the same person and instant. Of its joints it reads none, but crops that are centred on the labelled
root (``crops.centre: root``) tell where that is; those centred on the mask do not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geobody.data.crops import CropShards
from geobody.data.labels import LabelSplit
from geobody.models.arm import EncoderDecoder
from geobody.models.encoder_decoder import embed
from geobody.models.pose_batches import Augmentation, labelled_joints
from geobody.models.pose_head import EquivariantPoseHead, apply_pose_head
from geobody.models.pose_network import PoseNetwork, Predicted, predict_rows
from geobody.models.pose_step import pose_step
from geobody.multiview.fitting import (
    HEAT_RECIPE,
    PICTURE_PX,
    FitRecipe,
    fit_skeletons,
    meeting_points,
    small_masks,
)
from geobody.multiview.limbs import fit_radii
from geobody.progress import progress
from geobody.training.curves import merge_curves
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import RowSampler, fit
from geobody.training.schedule import Schedule

RADII_IMAGES = 200
"""Labelled images that the limbs' thickness is fitted to, at most."""


@dataclass(frozen=True)
class TuningRecipe:
    """How encoder and head are trained; keys and units as in ``params.yaml: tuning``, ``heat_weight`` as in
    ``pose_loss``. ``schedule`` is of all rounds together, a batch being images. ``augmentation`` is that of the steps
    on labels alone."""

    schedule: Schedule
    rounds: int
    first_share: float
    labelled_share: float
    moved_share: float
    ridge: float
    heat_maps: bool
    silhouettes: bool
    heat_weight: float
    augmentation: Augmentation

    def augmentation_of(self, number: int) -> Augmentation:
        """That of a round; the steps on labels alone are number 0."""
        return replace(self.augmentation, moved_share=self.moved_share) if number else self.augmentation

    def steps_of_rounds(self, *, semi_supervised: bool) -> list[int]:
        """Steps on labels alone, and then of each round; they add up to ``schedule.steps``."""
        steps = self.schedule.steps
        if not semi_supervised:
            return [steps]
        first = round(self.first_share * steps)
        ends = np.linspace(first, steps, self.rounds + 1).round().astype(int)
        return [first, *np.diff(ends).tolist()]


def unlabelled_views(crops: CropShards, split: LabelSplit, *, subjects: Iterable[int]) -> NDArray[np.int64]:
    """Rows (I,C) of the instants of training ``subjects`` that carry no label and lie in no held-out block."""
    views = crops.views(split="train", subjects=subjects)
    return views[~np.isin(views, np.concatenate([split.train, split.held_out])).any(1)]


def tune(
    arm: EncoderDecoder,
    *,
    crops: CropShards,
    labelled: NDArray[np.int64],
    unlabelled_views: NDArray[np.int64],
    recipe: TuningRecipe,
    seed: int,
    precision: str,
    threads: int,
    device: str,
    scratch: Path,
    curves: Path,
) -> PoseNetwork:
    """The pose network of ``arm``, trained in place on the joints of rows ``labelled`` (N,), in evaluation mode.

    ``unlabelled_views`` (I,C) are the crops of instants without a label, for the rounds; empty for ``fine_tuned``.
    The head of an arm that was trained starts from the solution for its embeddings. Writes the CSV ``curves``,
    with the round in its first column, and resumes from ``scratch``.
    """
    fabric = make_fabric(precision=precision, threads=threads, device=device)
    placed_mm = labelled_joints(crops, labelled)
    schedule, rounds = recipe.schedule, recipe.steps_of_rounds(semi_supervised=len(unlabelled_views) > 0)

    def fits_of(number: int, predict: Callable[[], Predicted]) -> NDArray[np.float32]:
        """Fits that a round starts with, from what ``predict`` says of I*C crops; made once, so that it can go on."""
        file = scratch / f"fits_{number}.npy"
        if not file.exists():
            fits = multiview_labels(
                predict(), crops, views=unlabelled_views, labelled=labelled, placed_mm=placed_mm,
                silhouettes=recipe.silhouettes,
            )  # fmt: skip
            _save(file, fits)
        return np.load(file, allow_pickle=False)

    if not rounds[0]:
        fits_of(1, lambda: _predicted_as_it_is(arm, crops, labelled, unlabelled_views, ridge=recipe.ridge))
    with seeded(seed, "pose network"):
        network = PoseNetwork(arm.eval())
        if arm.trained:
            network.start(lambda: _solved(arm, crops, labelled, ridge=recipe.ridge))
    network.arm.requires_grad_(True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.freeze_unused(torch.rand(2, 3, crops.crop_size_px, crops.crop_size_px))
    files: dict[str, Path] = {}
    for number, steps in enumerate(rounds):
        if not steps:
            continue
        name = f"round {number}"
        rows = labelled
        if number:
            placed_mm[unlabelled_views] = fits_of(
                number,
                lambda: predict_rows(
                    network,
                    crops,
                    unlabelled_views.reshape(-1),
                    heat_maps=recipe.heat_maps,
                    device=fabric.device,
                ),
            )
            rows = mixed_rows(labelled, unlabelled_views.reshape(-1), share=recipe.labelled_share, seed=seed)
        files[str(number)] = scratch / f"curves_{number}.csv"
        fit(
            modules={"pose_network": network},
            loss_step=pose_step(
                network,
                crops,
                placed_mm,
                augmentation=recipe.augmentation_of(number),
                heat_weight=recipe.heat_weight,
                device=fabric.device,
            ),
            sampler=RowSampler(rows, seed),
            schedule=replace(schedule, steps=steps, warmup_steps=min(schedule.warmup_steps, steps - 1)),
            seed=seed + number,
            fabric=fabric,
            scratch=scratch,
            curves=files[str(number)],
            desc=f"pose network, {name}",
        )
    merge_curves(files, curves, column="round")
    return network


def multiview_labels(
    predicted: Predicted,
    crops: CropShards,
    *,
    views: NDArray[np.int64],
    labelled: NDArray[np.int64],
    placed_mm: NDArray[np.float32],
    silhouettes: bool,
) -> NDArray[np.float32]:
    """Joints (I,C,17,3), mm, crop frames, cameras at the origin, of the instants ``views`` (I,C): what was
    ``predicted`` of the I*C crops, fused, and fitted to their silhouettes.

    Joints are looked for where the heat maps of all views meet, if any were predicted. The limbs' thickness comes from
    the ``labelled`` rows of ``placed_mm`` (N,17,3). Person by person, since lengths and thicknesses are theirs.
    """
    joints = predicted.joints_mm.view(*views.shape, 17, 3)
    heat = None if predicted.heat is None else predicted.heat.unflatten(0, views.shape)
    some = labelled[np.unique(np.linspace(0, len(labelled) - 1, RADII_IMAGES).astype(int))]
    radii = fit_radii(torch.from_numpy(placed_mm[some]), small_masks(crops.masks[some]), _focal(crops, some))
    fitted = np.zeros(joints.shape, np.float32)
    subjects = crops.table["subject"][views[:, 0]]
    recipe = FitRecipe() if heat is None else HEAT_RECIPE
    if not silhouettes:
        recipe = replace(recipe, steps=0)
    for subject in progress(np.unique(subjects), desc="fits to silhouettes"):
        chosen = np.flatnonzero(subjects == subject)
        rows = views[chosen]
        rotations = torch.from_numpy(crops.table["R_world_to_crop"][rows].astype(np.float32))
        centres = meeting_points(crops.table["centre_world_mm"][rows], crops.table["R_world_to_crop"][rows])
        fitted[chosen] = fit_skeletons(
            joints[chosen],
            R_world_to_crop=rotations,
            centre_crop_mm=torch.from_numpy(centres.astype(np.float32)),
            focal_px=_focal(crops, rows),
            masks=small_masks(crops.masks[rows.reshape(-1)]).view(*rows.shape, PICTURE_PX, PICTURE_PX),
            log_radii=radii,
            recipe=recipe,
            heat=None if heat is None else heat[chosen],
        ).numpy()
    return fitted


def mixed_rows(
    labelled: NDArray[np.int64], unlabelled: NDArray[np.int64], *, share: float, seed: int
) -> NDArray[np.int64]:
    """Rows of an epoch: every unlabelled one, and labelled ones repeated until they are ``share`` of it.

    Where they do not come equally often, chance says which come once more: rows are in the order of their actions.
    """
    count = round(share / (1.0 - share) * len(unlabelled))
    shuffled = np.random.default_rng(seed).permutation(labelled)
    return np.concatenate([np.resize(shuffled, max(count, 1)), unlabelled])


def _solved(
    arm: EncoderDecoder, crops: CropShards, labelled: NDArray[np.int64], *, ridge: float
) -> EquivariantPoseHead:
    head = EquivariantPoseHead()
    head.solve(embed(arm, crops, labelled)[0], crops.table["joints_mm"][labelled], ridge=ridge)
    return head


def _predicted_as_it_is(
    arm: EncoderDecoder,
    crops: CropShards,
    labelled: NDArray[np.int64],
    views: NDArray[np.int64],
    *,
    ridge: float,
) -> Predicted:
    """Of ``views`` (I,C), by the head that is solved for the arm, whose heat maps are of no joints yet."""
    head = _solved(arm.eval(), crops, labelled, ridge=ridge)
    found = apply_pose_head(head, embed(arm, crops, views.reshape(-1))[0])
    return Predicted(torch.from_numpy(found), None)


def _focal(crops: CropShards, rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(crops.table["focal_px"][rows].astype(np.float32)) * (
        PICTURE_PX / crops.crop_size_px
    )


def _save(path: Path, array: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)
