"""Pose heads: 3D joints from L_3D, the 200 points of an embedding.

Source: Rhodin et al. 2018, section 4 (``mlp``). ``equivariant`` is the smallest head that respects
what L_3D is: its points turn with the person, so joints that are weighted sums of them do too.
A head never touches the encoder; training either through the other is up to the caller.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from geobody.errors import DataError
from geobody.models.pose_scale import N_JOINTS, PoseScale, zero_root
from geobody.training.checkpoint import load_weights, save_weights

KINDS: Final = ("mlp", "equivariant")
PREDICTION_BATCH: Final = 1024


class MlpPoseHead(nn.Module):
    """Two hidden layers (linear, ReLU, batch norm, dropout), then standardised joints."""

    input_scale: Tensor

    def __init__(self, *, n_points: int = 200, hidden_units: int = 2048, dropout: float = 0.5) -> None:
        super().__init__()
        self.n_points = n_points
        self.layers = nn.Sequential(
            *_hidden_layer(3 * n_points, hidden_units, dropout),
            *_hidden_layer(hidden_units, hidden_units, dropout),
            nn.Linear(hidden_units, 3 * N_JOINTS),
        )
        self.scale = PoseScale()
        self.register_buffer("input_scale", torch.ones(()))

    def set_input_scale(self, l3d: np.ndarray) -> None:
        """Divides inputs by the root mean square of ``l3d``: one number, so no direction is favoured."""
        self.input_scale.fill_(max(float(np.sqrt(np.mean(np.square(l3d, dtype=np.float64)))), 1e-8))

    def forward(self, l3d: Tensor) -> Tensor:
        """(B,17,3) joints in mm, root at zero, crop frame; ``l3d`` (B,P,3) in the same frame's axes."""
        standardised = self.layers((l3d / self.input_scale).flatten(1))
        return self.scale(standardised.unflatten(1, (N_JOINTS, 3)))


class EquivariantPoseHead(nn.Module):
    """Each joint a weighted sum of the points: turning L_3D turns the pose."""

    def __init__(self, *, n_points: int = 200) -> None:
        super().__init__()
        self.n_points = n_points
        self.weight = nn.Parameter(torch.zeros(N_JOINTS, n_points))

    def forward(self, l3d: Tensor) -> Tensor:
        """(B,17,3) joints in mm, root at zero, in the frame of ``l3d`` (B,P,3)."""
        return zero_root(torch.einsum("jp,bpc->bjc", self.weight, l3d))

    @torch.no_grad()
    def solve(self, l3d: np.ndarray, joints_mm: np.ndarray, *, ridge: float) -> None:
        """Sets the weights to the ridge regression of ``joints_mm`` (N,17,3) on ``l3d`` (N,P,3).

        ``ridge`` is a share of the points' mean second moment, so it means the same at each size
        of L_3D. Solved in float64 by the normal equations: P is a few hundred.
        """
        points = np.moveaxis(np.asarray(l3d, dtype=np.float64), 1, -1).reshape(-1, l3d.shape[1])
        targets = np.moveaxis(np.asarray(joints_mm, dtype=np.float64), 1, -1).reshape(-1, N_JOINTS)
        moments = points.T @ points
        penalty = ridge * np.trace(moments) / len(moments)
        # Embeddings that are all zero would leave nothing to divide by.
        moments[np.diag_indices_from(moments)] += max(penalty, np.finfo(np.float64).tiny)
        self.weight.copy_(torch.from_numpy(np.linalg.solve(moments, points.T @ targets).T))


def _hidden_layer(in_units: int, out_units: int, dropout: float) -> tuple[nn.Module, ...]:
    return nn.Linear(in_units, out_units), nn.ReLU(), nn.BatchNorm1d(out_units), nn.Dropout(dropout)


PoseHead = MlpPoseHead | EquivariantPoseHead


def build_pose_head(*, kind: str, **settings: Any) -> PoseHead:
    """A head by its name in params, with the keyword arguments of its class."""
    if kind == "mlp":
        return MlpPoseHead(**settings)
    if kind == "equivariant":
        return EquivariantPoseHead(**settings)
    raise ValueError(f"pose head {kind!r}: one of {', '.join(KINDS)}")


def save_pose_head(path: Path, head: PoseHead, config: dict[str, Any]) -> None:
    """Writes a head; ``config`` is what ``build_pose_head`` made it from."""
    save_weights(path, head, config)


def load_pose_head(path: Path) -> PoseHead:
    """The head in ``path``, in evaluation mode; raises DataError if the file does not hold one."""
    state, config = load_weights(path)
    try:
        head = build_pose_head(**config)
        head.load_state_dict(state)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(path, f"holds no pose head ({reason})", "run `dvc repro pose_head`") from None
    return head.eval()


@torch.no_grad()
def apply_pose_head(head: PoseHead, l3d: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """(N,17,3) float32 joints in mm of ``l3d`` (N,P,3); puts the head into evaluation mode."""
    head.to(device).eval()
    parts = []
    for start in range(0, len(l3d), PREDICTION_BATCH):
        points = np.array(l3d[start : start + PREDICTION_BATCH], dtype=np.float32)
        parts.append(head(torch.from_numpy(points).to(device)).cpu())
    return torch.cat(parts).numpy() if parts else np.zeros((0, N_JOINTS, 3), dtype=np.float32)


def predict_pose(path: Path, l3d: np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """(N,17,3) float32 joints in mm, root-centred, crop frame, of embeddings ``l3d`` (N,P,3).

    Raises DataError if ``path`` holds no pose head or one for another number of points.
    """
    head = load_pose_head(path)
    if l3d.ndim != 3 or l3d.shape[1:] != (head.n_points, 3):
        problem = f"takes embeddings (N,{head.n_points},3), these are {l3d.shape}"
        raise DataError(path, problem, "run `dvc repro pose_head`")
    return apply_pose_head(head, l3d, device=device)
