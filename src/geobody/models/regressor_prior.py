"""The prior as the regressor meets it: frozen, or discriminators that train along with it.

``frozen``: the discriminators of stage ``gan_prior``, and a penalty on what leaves the range of its poses.
``along``: the same, but the discriminators go on learning, from the regressor's bodies as fakes.
``hmr``: discriminators that start anew and train along, and no range (Kanazawa et al., CVPR 2018).
``thesis``: one discriminator on 72 axis-angle values, the root's among them, and 10 betas. It is here for
comparison: real roots are in the frame of their capture, so that it judges where a person faces.
"""

from typing import Literal

import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle
from torch import Tensor, nn

from geobody.conventions import N_BETAS, SMPL_JOINTS
from geobody.data.surreal import SurrealPoses
from geobody.models.prior import PoseDiscriminators, PosePrior, Verdicts, realness_loss
from geobody.models.regressor import BodyParams

Kind = Literal["frozen", "along", "hmr", "thesis"]


class RawDiscriminator(nn.Module):
    """One verdict on axis-angle values (B,24,3), the root's among them, and betas (B,10)."""

    def __init__(self, units: int = 1024) -> None:
        super().__init__()
        inputs = 3 * len(SMPL_JOINTS) + N_BETAS
        self.layers = nn.Sequential(
            nn.Linear(inputs, units), nn.LeakyReLU(0.1), nn.Linear(units, units), nn.LeakyReLU(0.1),
            nn.Linear(units, 1),
        )  # fmt: skip

    def forward(self, params: BodyParams) -> Verdicts:
        """The same verdict thrice, of bodies (B)."""
        theta = matrix_to_axis_angle(params.rotations.float()).flatten(1)
        verdict = self.layers(torch.cat((theta, params.betas.float()), 1)).squeeze(1)
        return Verdicts(joints=verdict[:, None], pose=verdict, shape=verdict)


class RegressorPrior(nn.Module):
    """What makes a regressor's bodies plausible; ``discriminators`` are trained when ``trained``."""

    def __init__(self, kind: Kind, prior: PosePrior) -> None:
        super().__init__()
        self.kind = kind
        self.trained = kind != "frozen"
        self.prior = prior
        self.discriminators: nn.Module = prior.discriminators
        if kind == "hmr":
            self.discriminators = PoseDiscriminators(
                **{name: prior.config[name] for name in ("joint_units", "pose_units", "shape_units")}
            )
            self.discriminators.statistics.load_state_dict(prior.discriminators.statistics.state_dict())
        elif kind == "thesis":
            self.discriminators = RawDiscriminator()
        self.discriminators.requires_grad_(self.trained)

    def verdicts(self, params: BodyParams) -> Verdicts:
        """What the discriminators say of bodies (B)."""
        if self.kind == "thesis":
            return self.discriminators(params)
        return self.discriminators(params.rotations[:, 1:], params.betas)

    def realness_loss(self, params: BodyParams) -> Tensor:
        """Scalar: 0 where every discriminator says real, about 1 where all say fake, more out of a range."""
        if self.kind in ("frozen", "along"):
            return self.prior.realness_loss(params.rotations[:, 1:], params.betas)
        return realness_loss(self.verdicts(params))

    def adversarial_loss(self, real: BodyParams, fake: BodyParams) -> Tensor:
        """Least squares of the discriminators, real towards 1 and fake towards 0 (Mao et al., ICCV 2017)."""
        said = self.verdicts(fake)
        squares = [x.square().mean() for x in (said.joints, said.pose, said.shape)]
        return realness_loss(self.verdicts(real)) + torch.stack(squares).mean()


class RealBodies:
    """Bodies of the prior's training set: ``theta`` (N,24,3), axis-angle in radians, and ``betas`` (N,10)."""

    def __init__(self, poses: SurrealPoses, device: torch.device) -> None:
        self.theta = torch.cat(
            [torch.from_numpy(poses.root[:, None]), torch.from_numpy(poses.body_pose)], 1
        ).to(device)
        self.betas = torch.from_numpy(poses.betas).to(device)

    def root_rotations(self) -> Tensor:
        """(N,3,3): how each body stands in the frame of its capture."""
        return axis_angle_to_matrix(self.theta[:, 0])

    def draw(self, count: int, generator: torch.Generator) -> BodyParams:
        """``count`` bodies; their roots are in the frame of their capture."""
        rows = torch.randint(len(self.betas), (count,), generator=generator).to(self.betas.device)
        return BodyParams(axis_angle_to_matrix(self.theta[rows]), self.betas[rows])
