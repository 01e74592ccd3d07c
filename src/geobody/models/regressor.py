"""A body from an embedding: 24 rotations and 10 betas, as changes to a mean body.

Rotations leave the network as six numbers, two columns of the matrix before orthonormalisation (Zhou
et al., CVPR 2019): continuous, and without a bound that a half turn could run into. To be compared with
them, ``tanh`` are the thesis' outputs: axis-angle and betas through tanh, which reach one radian about each axis.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_rotation_6d, rotation_6d_to_matrix
from torch import Tensor, nn

from geobody.body.model import BodyModel
from geobody.conventions import H36M_ROOT, MM_PER_M, N_BETAS, SMPL_JOINTS
from geobody.errors import DataError
from geobody.training.checkpoint import load_weights

N_ROTATIONS = len(SMPL_JOINTS)
PREDICTION_BATCH = 256
Outputs = Literal["sixd", "tanh"]
CURE = "run `dvc repro smpl_regressor`"


class BodyParams(NamedTuple):
    """rotations (B,24,3,3), the first from the body's frame to the crop's; betas (B,10)."""

    rotations: Tensor
    betas: Tensor

    def split(self, count: int) -> tuple["BodyParams", "BodyParams"]:
        """The first ``count`` bodies and the others."""
        return BodyParams(*(x[:count] for x in self)), BodyParams(*(x[count:] for x in self))


class RootCentredBody(NamedTuple):
    """vertices_mm (B,V,3) and joints_mm (B,17,3): crop frame's axes, Human3.6M's root at the origin."""

    vertices_mm: Tensor
    joints_mm: Tensor


class SmplRegressor(nn.Module):
    """Embedding -> body. Starts as the mean body that it is given, whatever the input.

    With ``outputs="tanh"`` it starts as the T-pose of the mean shape that faces the camera instead.
    """

    input_scale: Tensor
    start: Tensor
    facing: Tensor

    def __init__(
        self,
        *,
        n_points: int = 200,
        n_appearance: int = 128,
        hidden_units: int = 1024,
        hidden_layers: int = 2,
        dropout: float = 0.3,
        outputs: Outputs = "sixd",
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.n_points, self.n_appearance = n_points, n_appearance
        widths = [3 * n_points + n_appearance, *[hidden_units] * hidden_layers]
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths):
            layers += [nn.Linear(inside, outside), nn.ReLU(), nn.BatchNorm1d(outside), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        numbers = 6 if outputs == "sixd" else 3
        self.head = nn.Linear(widths[-1], numbers * N_ROTATIONS + N_BETAS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("input_scale", torch.ones(2))
        identity = matrix_to_rotation_6d(torch.eye(3)).repeat(N_ROTATIONS)
        self.register_buffer("start", torch.cat((identity, torch.zeros(N_BETAS))))
        self.register_buffer("facing", torch.diag(torch.tensor([1.0, -1.0, -1.0])), persistent=False)

    @torch.no_grad()
    def set_start(self, *, rotations: Tensor, betas: Tensor) -> None:
        """The body (24,3,3), (10,) that an untrained network answers with."""
        columns = matrix_to_rotation_6d(rotations.transpose(-1, -2)).flatten()
        self.start.copy_(torch.cat((columns, betas)))

    def set_input_scale(self, l3d: np.ndarray, lapp: np.ndarray) -> None:
        """Divides both inputs by their root mean squares: one number each, so no direction is favoured."""
        for i, values in enumerate((l3d, lapp)):
            self.input_scale[i] = max(float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))), 1e-8)

    def forward(self, l3d: Tensor, lapp: Tensor) -> BodyParams:
        """The body of embeddings ``l3d`` (B,P,3) and ``lapp`` (B,A), in the crop frame of ``l3d``."""
        inputs = [l3d.flatten(1) / self.input_scale[0]]
        if self.n_appearance:
            inputs.append(lapp / self.input_scale[1])
        out = self.head(self.layers(torch.cat(inputs, dim=1))).float()
        if self.outputs == "tanh":
            out = torch.tanh(out)
            rotations = axis_angle_to_matrix(out[:, :-N_BETAS].unflatten(1, (N_ROTATIONS, 3)))
            root = self.facing @ rotations[:, :1]
            return BodyParams(torch.cat((root, rotations[:, 1:]), 1), out[:, -N_BETAS:])
        out = out + self.start
        # pytorch3d reads rows; columns are the body's own axes, which turn as the points of L_3D do.
        rotations = rotation_6d_to_matrix(out[:, :-N_BETAS].unflatten(1, (N_ROTATIONS, 6))).transpose(-1, -2)
        return BodyParams(rotations, out[:, -N_BETAS:])


def pose_body(body: BodyModel, params: BodyParams) -> RootCentredBody:
    """The posed bodies, centred on Human3.6M's root joint, which a crop has at (0, 0, depth_mm)."""
    rotations, betas = params
    nowhere = betas.new_zeros(len(betas), 3)
    out = body(betas=betas, body_pose=rotations[:, 1:], global_orient=rotations[:, 0], transl=nowhere)
    root = out.joints_h36m[:, H36M_ROOT, None]
    return RootCentredBody(MM_PER_M * (out.vertices - root), MM_PER_M * (out.joints_h36m - root))


def load_regressor(path: Path) -> SmplRegressor:
    """The regressor in a file of stage ``smpl_regressor``, in eval mode; DataError if it is none."""
    weights, config = load_weights(path)
    try:
        regressor = SmplRegressor(**config)
        regressor.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(path, f"holds no body regressor ({reason})", CURE) from None
    return regressor.eval()


@torch.no_grad()
def apply_regressor(regressor: SmplRegressor, l3d: np.ndarray, lapp: np.ndarray) -> dict[str, np.ndarray]:
    """rotations (N,24,3,3) and betas (N,10), float32, of embeddings (N,P,3), (N,A); sets eval mode."""
    regressor.eval()
    device = regressor.start.device
    parts: list[BodyParams] = []
    for start in range(0, len(l3d), PREDICTION_BATCH):
        rows = slice(start, start + PREDICTION_BATCH)
        inputs = (torch.from_numpy(np.array(x[rows], dtype=np.float32)).to(device) for x in (l3d, lapp))
        parts.append(BodyParams(*(x.cpu() for x in regressor(*inputs))))
    if not parts:
        return {
            "rotations": np.zeros((0, N_ROTATIONS, 3, 3), np.float32),
            "betas": np.zeros((0, N_BETAS), np.float32),
        }
    rotations, betas = (torch.cat(x).numpy() for x in zip(*parts, strict=True))
    return {"rotations": rotations, "betas": betas}


def predict_body(path: Path, l3d: np.ndarray, lapp: np.ndarray) -> dict[str, np.ndarray]:
    """rotations (N,24,3,3), crop frame, and betas (N,10) of embeddings (N,P,3) and (N,A).

    Raises DataError if ``path`` holds no regressor or one for embeddings of other sizes.
    """
    regressor = load_regressor(path)
    looks_fit = lapp.ndim == 2 and len(lapp) == len(l3d) and regressor.n_appearance in (0, lapp.shape[1])
    if l3d.ndim != 3 or l3d.shape[1:] != (regressor.n_points, 3) or not looks_fit:
        expected = f"(N,{regressor.n_points},3) and (N,{regressor.n_appearance})"
        problem = f"takes embeddings {expected}, these are {l3d.shape} and {lapp.shape}"
        raise DataError(path, problem, CURE)
    return apply_regressor(regressor, l3d, lapp)


@torch.no_grad()
def posed_bodies(
    body: BodyModel, *, rotations: np.ndarray, betas: np.ndarray, with_vertices: bool = True
) -> dict[str, np.ndarray]:
    """joints17_mm (N,17,3) and vertices_mm (N,V,3), float32, root-centred in the crop frame.

    Posed in batches. Without vertices the key is absent and memory stays small.
    """
    joints: list[np.ndarray] = [np.zeros((0, 17, 3), np.float32)]
    vertices: list[np.ndarray] = [np.zeros((0, body.num_vertices, 3), np.float32)]
    dtype, device = body.v_template.dtype, body.v_template.device
    for start in range(0, len(betas), PREDICTION_BATCH):
        rows = slice(start, start + PREDICTION_BATCH)
        turned, shape = (torch.from_numpy(np.asarray(x[rows])).to(device, dtype) for x in (rotations, betas))
        posed = pose_body(body, BodyParams(turned, shape))
        joints.append(posed.joints_mm.cpu().numpy().astype(np.float32))
        if with_vertices:
            vertices.append(posed.vertices_mm.cpu().numpy().astype(np.float32))
    out: dict[str, Any] = {"joints17_mm": np.concatenate(joints)}
    if with_vertices:
        out["vertices_mm"] = np.concatenate(vertices)
    return out
