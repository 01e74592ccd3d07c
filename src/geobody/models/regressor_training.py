"""Training of the body regressor: joints of the labelled, silhouettes of all, agreement of views, prior.

Each step takes labelled images and, of other instants, all views. A body that was predicted from one
view is turned into the others by the known rotations and put at their roots, so that a silhouette it
never saw judges it. Of the people in the images no theta, no beta and no pose but the labels' enters; bodies of the
prior's set are rehearsed with embeddings made up for them (`geobody.models.rehearsal`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from geobody.body.model import BodyModel
from geobody.body_losses import (
    agreement_loss,
    crossentropy_loss,
    far_loss,
    joint_loss,
    mask_samples,
    overlap_loss,
    rotation_loss,
    spread_loss,
    turned_views,
)
from geobody.data.crops import CropShards
from geobody.data.surreal import SurrealPoses
from geobody.errors import DataError
from geobody.geometry.turns import random_turns, rotate
from geobody.models.mean_body import MeanBody
from geobody.models.prior import PosePrior
from geobody.models.regressor import BodyParams, Outputs, SmplRegressor, pose_body
from geobody.models.regressor_prior import Kind, RealBodies, RegressorPrior
from geobody.models.rehearsal import Rehearsal
from geobody.render.silhouettes import Backend, SilhouetteRenderer, project_px
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import Batch, RowSampler, fit
from geobody.training.schedule import Schedule

SAMPLED_VERTICES = 400
"""Vertices that the far-reaching term and the views' agreement look at, drawn anew in each step."""

COMPARED = {"all": list(range(17)), "without_hips": [2, 3, 5, 6, *range(8, 17)]}
"""Joints of Human3.6M that labels are compared at; without hips, spine and root, as the thesis did, 13."""

MASK_LOSSES = {"iou": overlap_loss, "bce": crossentropy_loss}

REGRESSOR, PRIOR = "smpl_regressor", "prior"
"""The networks of a training; the second only where the prior trains along."""

ROTATIONS = 2.0
"""Weight of the joints' rotations in rehearsal, beside the places of joints."""

TERMS = ("pose", "rehearsal", "overlap", "far", "agreement", "spread", "prior", "betas")


@dataclass(frozen=True)
class RegressorRecipe:
    """How the regressor is trained: the fields of ``params.yaml: smpl_regressor``, explained there.

    A batch of ``schedule`` are labelled images; ``instants`` are drawn beside them.
    """

    hidden_units: int
    hidden_layers: int
    dropout: float
    appearance: bool
    outputs: Outputs
    joints: Literal["all", "without_hips"]
    mask_loss: Literal["iou", "bce"]
    mask_views: Literal["all", "own"]
    prior: Kind
    schedule: Schedule
    instants: int
    raster_instants: int
    mask_samples: int
    backend: Backend
    supersample: int
    turn_share: float
    agreement_start: float
    pose_weight: float
    rehearsal_weight: float
    overlap_weight: float
    far_weight: float
    agreement_weight: float
    spread_weight: float
    prior_weight: float
    betas_weight: float

    def weight(self, term: str, step: int) -> float:
        """Weight of a term: agreement rises over as many steps as it waits, the others are constant."""
        value = float(getattr(self, f"{term}_weight"))
        if term in ("agreement", "spread"):
            begin = self.agreement_start * self.schedule.steps
            value *= float(np.clip((step - begin) / max(begin, 1.0), 0.0, 1.0))
        return value


class BodyObjective:
    """The terms of a step, each raw (in comparable units) and weighted, and their sum."""

    def __init__(
        self,
        *,
        recipe: RegressorRecipe,
        shards: CropShards,
        l3d: np.ndarray,
        lapp: np.ndarray,
        labelled: np.ndarray,
        views: np.ndarray,
        body: BodyModel,
        joint_body: BodyModel,
        prior: RegressorPrior,
        regressor: SmplRegressor,
        device: torch.device,
        real: SurrealPoses | None = None,
    ) -> None:
        """``real`` are captured bodies, for rehearsal and for a prior that trains along."""
        self.recipe, self.shards, self.device = recipe, shards, device
        self.l3d, self.lapp, self.labelled, self.views = l3d, lapp, labelled, views
        self.body, self.joint_body = body.to(device), joint_body.to(device)
        self.prior, self.regressor = prior.to(device), regressor
        if self.prior.trained or recipe.rehearsal_weight > 0:
            if real is None:
                raise ValueError("rehearsal, and a prior that trains along, need real bodies")
            self.real = RealBodies(real, device)
        if recipe.rehearsal_weight > 0:
            self.rehearsal = Rehearsal(
                self.real, l3d=l3d[labelled], joints_mm=shards.table["joints_mm"][labelled],
                R_world_to_crop=shards.table["R_world_to_crop"][labelled], body=self.joint_body,
            )  # fmt: skip
        self.renderer = SilhouetteRenderer(
            faces=body.faces.cpu(), size_px=shards.crop_size_px, backend=recipe.backend,
            supersample=recipe.supersample,
        )  # fmt: skip

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        recipe, g = self.recipe, batch.generator
        count = batch.share_of(recipe.schedule.batch_size)
        labelled = self.labelled[torch.randint(len(self.labelled), (count,), generator=g).numpy()]
        views = self.views[batch.rows]  # (I,C)
        l3d, lapp = self._embeddings(np.concatenate((labelled, views.ravel())))
        truth = self._tensor(self.shards.table["joints_mm"][labelled])
        # Geometry in float32: bfloat16 would round a joint at 5 m to centimetres.
        with torch.autocast(self.device.type, enabled=False):
            R = self._tensor(self.shards.table["R_world_to_crop"][labelled])
            turn = random_turns(R, share=recipe.turn_share, generator=g)
            truth = rotate(turn, truth)
            l3d = torch.cat((rotate(turn, l3d[: len(labelled)]), l3d[len(labelled) :]))
        if batch.group == PRIOR:
            return self._prior_step(l3d, lapp, g)
        params = self.regressor(l3d, lapp)
        rehearsal = self._rehearsal_term(lapp[: len(labelled)], g)
        with torch.autocast(self.device.type, enabled=False):
            of_labelled, of_views = params.split(len(labelled))
            joints, compared = pose_body(self.joint_body, of_labelled).joints_mm, COMPARED[recipe.joints]
            raw = {
                "pose": joint_loss(joints[:, compared], truth[:, compared]),
                "rehearsal": rehearsal,
                **self._view_terms(of_views, views, g, drawn=batch.share_of(recipe.raster_instants)),
                "prior": self.prior.realness_loss(params),
                "betas": params.betas.square().mean(),
            }
            weighted = {term: recipe.weight(term, batch.step) * raw[term] for term in TERMS}
            total = torch.stack(list(weighted.values())).sum()
        return {
            "total": total,
            **{f"{term}_raw": raw[term].detach() for term in TERMS},
            **{f"{term}_weighted": weighted[term].detach() for term in TERMS},
        }

    def _prior_step(self, l3d: Tensor, lapp: Tensor, g: torch.Generator) -> Mapping[str, Tensor]:
        with torch.no_grad():
            fake = self.regressor(l3d, lapp)
        with torch.autocast(self.device.type, enabled=False):
            return {"total": self.prior.adversarial_loss(self.real.draw(len(l3d), g), fake)}

    def _rehearsal_term(self, lapp: Tensor, g: torch.Generator) -> Tensor:
        """How far captured bodies are from what the regressor makes of embeddings made up for them, with ``lapp``."""
        if self.recipe.rehearsal_weight == 0:
            return lapp.new_zeros(())
        with torch.autocast(self.device.type, enabled=False):
            l3d, bodies, joints_mm = self.rehearsal.draw(len(lapp), g)
        found = self.regressor(l3d, lapp)
        with torch.autocast(self.device.type, enabled=False):
            posed = pose_body(self.joint_body, found).joints_mm
            turned = rotation_loss(found.rotations, bodies.rotations)
            return joint_loss(posed, joints_mm) + ROTATIONS * turned

    def _view_terms(
        self, params: BodyParams, views: np.ndarray, g: torch.Generator, *, drawn: int
    ) -> dict[str, Tensor]:
        """Terms of views (I,C) of which the first ``drawn`` instants are rasterised."""
        instants, cameras = views.shape
        R = self._tensor(self.shards.table["R_world_to_crop"][views])
        vertices = pose_body(self.body, params).vertices_mm.unflatten(0, (instants, cameras))
        everyone = torch.arange(instants)
        # Which view's prediction an instant is judged through.
        source = torch.randint(cameras, (instants,), generator=g)
        if self.recipe.mask_views == "all":
            turned = turned_views(vertices[everyone, source], R[everyone, source], R)
        else:
            turned = vertices
        rows = views.ravel()
        placed = turned.flatten(0, 1) + self._tensor(self.shards.root_crop_mm(rows))[:, None]
        focal = self._tensor(self.shards.table["focal_px"][rows])
        mask = self._tensor(self.shards.masks[rows]) / 255.0
        samples = mask_samples(mask, self.recipe.mask_samples, g)
        some = torch.randperm(placed.shape[1], generator=g)[:SAMPLED_VERTICES]
        xy = project_px(placed[:, some], focal, size_px=self.shards.crop_size_px)
        drawn *= cameras
        overlap = MASK_LOSSES[self.recipe.mask_loss]
        return {
            "overlap": overlap(self.renderer(placed[:drawn], focal[:drawn]), mask[:drawn]),
            "far": far_loss(xy, mask=mask, samples=samples),
            "agreement": agreement_loss(vertices[:, :, some], R),
            "spread": spread_loss(params.betas.unflatten(0, (instants, cameras))),
        }

    def _embeddings(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return self._tensor(self.l3d[rows]), self._tensor(self.lapp[rows])

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(self.device)


def training_views(
    shards: CropShards, *, held_out: np.ndarray, subjects: Sequence[int] | None = None
) -> np.ndarray:
    """Rows (I,C) of the training split's complete instants, without those of the rows ``held_out``.

    Of ``subjects`` alone when they are given.
    """
    views = shards.views(split="train", subjects=subjects)
    instant = shards.table["instant"]
    return views[~np.isin(instant[views[:, 0]], instant[held_out])]


def train_regressor(
    *,
    recipe: RegressorRecipe,
    shards: CropShards,
    l3d: np.ndarray,
    lapp: np.ndarray,
    labelled: np.ndarray,
    held_out: np.ndarray,
    subjects: Sequence[int] | None,
    body: BodyModel,
    joint_body: BodyModel,
    prior: PosePrior,
    start: MeanBody,
    seed: int,
    precision: str,
    threads: int,
    device: str,
    scratch: Path,
    curves: Path,
    real: SurrealPoses | None = None,
) -> tuple[SmplRegressor, dict[str, Any]]:
    """A regressor trained on the crops' training split, and what rebuilds it.

    ``labelled`` are the rows whose joints may be used. Of all other rows only embeddings, cameras
    and masks are read; of the test split, and of the instants of the rows ``held_out``, nothing;
    nor of anybody but ``subjects`` when they are given.
    ``joint_body`` gives the joints of ``body`` alone; ``real`` are the bodies that a prior which trains along
    learns from. Writes the CSV ``curves``.
    """
    fabric = make_fabric(precision=precision, threads=threads, device=device)
    views = training_views(shards, held_out=held_out, subjects=subjects)
    if len(views) == 0:
        raise DataError("data/crops", "has no instant that every camera saw", "run `dvc repro crops`")
    config: dict[str, Any] = {
        "n_points": l3d.shape[1],
        "n_appearance": lapp.shape[1] if recipe.appearance else 0,
        "hidden_units": recipe.hidden_units,
        "hidden_layers": recipe.hidden_layers,
        "dropout": recipe.dropout,
        "outputs": recipe.outputs,
    }
    with seeded(seed, "smpl regressor"):
        regressor = SmplRegressor(**config)
    regressor.set_input_scale(l3d[labelled], lapp[labelled])
    rotations = np.concatenate((start.global_orient[None], start.body_pose))
    regressor.set_start(rotations=torch.from_numpy(rotations), betas=torch.from_numpy(start.betas))
    with seeded(seed, "regressor's prior"):
        judge = RegressorPrior(recipe.prior, prior)
    objective = BodyObjective(
        recipe=recipe, shards=shards, l3d=l3d, lapp=lapp, labelled=labelled, views=views, body=body,
        joint_body=joint_body, prior=judge, regressor=regressor, device=fabric.device, real=real,
    )  # fmt: skip
    modules: dict[str, nn.Module] = {REGRESSOR: regressor}
    if objective.prior.trained:
        modules[PRIOR] = objective.prior.discriminators
    fit(
        modules=modules,
        loss_step=objective,
        sampler=RowSampler(np.arange(len(views)), seed),
        schedule=replace(recipe.schedule, batch_size=recipe.instants),
        seed=seed,
        fabric=fabric,
        scratch=scratch,
        curves=curves,
        desc="body regressor",
    )
    return regressor.cpu(), config


def last_losses(curves: Path) -> dict[str, float]:
    """The terms in the last row of a training's CSV: means over its last window of steps."""
    header, *rows = curves.read_text(encoding="utf-8").splitlines()
    return {name: float(value) for name, value in zip(header.split(","), rows[-1].split(","), strict=True)
            if name != "step"}  # fmt: skip
