"""Training of a pose head on frozen embeddings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geobody.errors import DataError
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

EMBEDDINGS_FILE = "l3d.npy"


def read_l3d(folder: Path, *, rows: int) -> np.ndarray:
    """The memory-mapped (N,P,3) float32 L_3D of the crops; raises DataError if it is not ``rows`` long."""
    path = folder / EMBEDDINGS_FILE
    cure = "run `dvc repro embeddings`"
    try:
        l3d: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(path, "is missing", cure) from None
    except (OSError, ValueError) as error:
        raise DataError(path, f"is no readable array ({error})", cure) from None
    if l3d.ndim != 3 or l3d.shape[2] != 3 or l3d.shape[0] != rows or l3d.dtype != np.float32:
        raise DataError(path, f"is {l3d.dtype} {l3d.shape}, not float32 ({rows},P,3) as the crops", cure)
    return l3d


def train_pose_head(
    *,
    l3d: np.ndarray,
    joints_mm: np.ndarray,
    rows: np.ndarray,
    kind: str,
    hidden_units: int,
    dropout: float,
    ridge: float,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup_steps: int,
    clip_norm: float,
    seed: int,
    precision: str,
    threads: int,
    device: str,
    scratch: Path,
    curves: Path,
) -> tuple[PoseHead, dict[str, Any]]:
    """A head fitted to ``rows`` of ``l3d`` (N,P,3) and ``joints_mm`` (N,17,3), and what rebuilds it.

    No other row is read. Lengths in steps; the other settings as in ``params.yaml: pose_head``. Writes
    the CSV ``curves``: means over windows of steps for ``mlp``, before and after the one solve for
    ``equivariant``.
    """
    fabric = make_fabric(precision=precision, threads=threads, device=device)
    points = np.array(l3d[rows], dtype=np.float32)
    targets = np.array(joints_mm[rows], dtype=np.float32)
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
        predicted = mlp(torch.from_numpy(points[batch.rows]).to(fabric.device))
        target = torch.from_numpy(targets[batch.rows]).to(fabric.device)
        distance = (predicted.detach() - target).norm(dim=-1).mean()
        return {"total": mlp.scale.loss(predicted, target), "mpjpe_17_mm": distance}

    fit(
        modules={"pose_head": mlp},
        loss_step=loss_step,
        sampler=RowSampler(np.arange(len(points)), batch_size, seed),
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_steps=warmup_steps,
        clip_norm=clip_norm,
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
