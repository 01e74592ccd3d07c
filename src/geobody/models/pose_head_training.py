"""Training of a pose head on frozen embeddings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geobody.geometry.turns import random_turns, rotate
from geobody.models.pose_head import (
    EquivariantPoseHead,
    MlpPoseHead,
    PoseHead,
    apply_pose_head,
    build_pose_head,
)
from geobody.models.pose_scale import PoseScale
from geobody.training.curves import CurveWriter
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import Batch, RowSampler, fit
from geobody.training.schedule import Schedule


def train_pose_head(
    *,
    l3d: np.ndarray,
    joints_mm: np.ndarray,
    R_world_to_crop: np.ndarray,
    rows: np.ndarray,
    kind: str,
    hidden_units: int,
    dropout: float,
    ridge: float,
    turn_share: float,
    schedule: Schedule,
    seed: int,
    precision: str,
    threads: int,
    device: str,
    scratch: Path,
    curves: Path,
) -> tuple[PoseHead, dict[str, Any]]:
    """A head fitted to ``rows`` of ``l3d`` (N,P,3) and ``joints_mm`` (N,17,3), and what rebuilds it.

    ``R_world_to_crop`` (N,3,3) says where the vertical is, about which a share of embeddings and labels
    is turned, for ``mlp`` alone. No other row is read. Settings as in ``params.yaml: pose_head``; a batch of
    ``schedule`` are embeddings.
    Writes the CSV ``curves``: means over windows of steps for ``mlp``, before and after the one solve
    for ``equivariant``.
    """
    fabric = make_fabric(precision=precision, threads=threads, device=device)
    points = np.array(l3d[rows], dtype=np.float32)
    targets = np.array(joints_mm[rows], dtype=np.float32)
    to_crop = np.array(R_world_to_crop[rows], dtype=np.float32)
    config: dict[str, Any] = {"kind": kind, "n_points": points.shape[1]}
    if kind == "mlp":
        config |= {"hidden_units": hidden_units, "dropout": dropout}
    with seeded(seed, "pose head"):
        head = build_pose_head(**config)
    if isinstance(head, EquivariantPoseHead):
        _solve(head, points, targets, ridge=ridge, curves=curves)
        return head.eval(), config

    mlp: MlpPoseHead = head
    mlp.scale.set_from(targets)
    mlp.set_input_scale(points)

    def loss_step(batch: Batch) -> Mapping[str, Tensor]:
        with torch.autocast(fabric.device.type, enabled=False):
            turn = random_turns(
                torch.from_numpy(to_crop[batch.rows]), share=turn_share, generator=batch.generator
            )
            turned = rotate(turn, torch.from_numpy(points[batch.rows])).to(fabric.device)
            target = rotate(turn, torch.from_numpy(targets[batch.rows])).to(fabric.device)
        predicted = mlp(turned)
        distance = (predicted.detach() - target).norm(dim=-1).mean()
        return {"total": mlp.scale.loss(predicted, target), "mpjpe_17_mm": distance}

    fit(
        modules={"pose_head": mlp},
        loss_step=loss_step,
        sampler=RowSampler(np.arange(len(points)), seed),
        schedule=schedule,
        seed=seed,
        fabric=fabric,
        scratch=scratch,
        curves=curves,
        desc="pose head",
    )
    return mlp, config


def _solve(
    head: EquivariantPoseHead, points: np.ndarray, targets: np.ndarray, *, ridge: float, curves: Path
) -> None:
    scale = PoseScale()
    scale.set_from(targets)
    writer = CurveWriter(curves)
    for step in (0, 1):
        if step == 1:
            head.solve(points, targets, ridge=ridge)
        predicted = apply_pose_head(head, points)
        loss = float(scale.loss(torch.from_numpy(predicted), torch.from_numpy(targets)))
        distance = float(np.linalg.norm(predicted - targets, axis=-1).mean())
        writer.write(step, {"total": loss, "mpjpe_17_mm": distance})
