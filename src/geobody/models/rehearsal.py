"""Bodies of the prior's set as lessons for the body regressor: their embeddings are made up from their joints.

S1's labels hold S1's poses. The prior's set holds thousands of bodies without images. (On the synthetic
set they come from the generator that moves the people in the images too, in other takes than the test subjects'.) But
what L_3D says of a pose is linear in its joints, nearly, and turns with them. So a ridge regression on the labelled
images gives the points of any pose, a labelled image's residual the noise about them, and the joints get noise of
their own: networks err more on strangers than on whom they know.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from geobody.body.model import BodyModel
from geobody.conventions import H36M_ROOT, MM_PER_M
from geobody.geometry.turns import random_turns
from geobody.models.regressor import BodyParams, pose_body
from geobody.models.regressor_prior import RealBodies

RIDGE = 1e-3
"""Penalty, as a share of the joints' mean second moment."""
NOISE = 0.15
"""Noise of a joint, in units of its spread over the labels."""


class Rehearsal:
    """Draws bodies with embeddings that could be theirs."""

    def __init__(
        self,
        bodies: RealBodies,
        *,
        l3d: NDArray[np.float32],
        joints_mm: NDArray[np.float64],
        R_world_to_crop: NDArray[np.float64],
        body: BodyModel,
    ) -> None:
        """Of labelled images: ``l3d`` (N,P,3), ``joints_mm`` (N,17,3), ``R_world_to_crop`` (N,3,3)."""
        device = bodies.betas.device
        self.bodies, self.body = bodies, body
        points, joints, self.R = (
            torch.from_numpy(np.asarray(x, np.float32)).to(device)
            for x in (l3d, joints_mm / MM_PER_M, R_world_to_crop)
        )
        self.weight = _ridge(joints, points)
        self.residuals = points - self._points(joints)
        self.noise_m = NOISE * (joints - joints.mean(0)).square().mean((0, 2)).sqrt()[:, None]
        self.to_world = _upright(bodies.root_rotations())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, BodyParams, Tensor]:
        """Embeddings (B,P,3), bodies in labelled images' crop frames, of any heading, and their joints (B,17,3), mm."""
        real = self.bodies.draw(count, generator)
        rows = torch.randint(len(self.R), (count,), generator=generator).to(self.R.device)
        seen = random_turns(self.R[rows], share=1.0, generator=generator) @ self.R[rows] @ self.to_world
        bodies = BodyParams(
            torch.cat((seen[:, None] @ real.rotations[:, :1], real.rotations[:, 1:]), 1), real.betas
        )
        joints_mm = pose_body(self.body, bodies).joints_mm
        noise = torch.randn(joints_mm.shape, generator=generator).to(joints_mm)
        noisy = joints_mm / MM_PER_M + self.noise_m * noise
        noisy = noisy - noisy[:, H36M_ROOT : H36M_ROOT + 1]
        return self._points(noisy) + self.residuals[rows], bodies, joints_mm

    def _points(self, joints_m: Tensor) -> Tensor:
        return torch.einsum("pj,bjc->bpc", self.weight, joints_m)


def _ridge(joints: Tensor, points: Tensor) -> Tensor:
    """Weights (P,17) of the regression of ``points`` (N,P,3) on ``joints`` (N,17,3), alike in all directions."""
    x, y = (values.double().transpose(1, 2).flatten(0, 1) for values in (joints, points))
    moments = x.T @ x
    penalty = RIDGE * moments.trace() / len(moments) * torch.eye(len(moments)).to(moments)
    return torch.linalg.solve(moments + penalty, x.T @ y).T.float()


def _upright(rotations: Tensor) -> Tensor:
    """Rotation (3,3) from the frame of roots (N,3,3) to one whose z is where bodies' heads point in the mean.

    SMPL's rest pose has its head along y; which axis of a capture is up, the files do not say.
    """
    up = rotations[:, :, 1].mean(0)
    turn, _ = Rotation.align_vectors([[0.0, 0.0, 1.0]], [up.double().cpu().numpy()])
    return torch.from_numpy(turn.as_matrix()).to(rotations)
