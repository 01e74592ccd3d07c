"""An adversarial prior on the pose and the shape of a body, and the generator it is trained against.

After HMR (Kanazawa et al., CVPR 2018, section 3.2): discriminators on rotation matrices for each
joint, for all joints together, and on the shape, trained with least squares (Mao et al., ICCV
2017): real is 1, fake is 0. The root is no input: a person may face anywhere.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch3d.transforms import matrix_to_axis_angle, rotation_6d_to_matrix
from torch import Tensor, nn

from geobody.conventions import N_BETAS, SMPL_JOINTS
from geobody.errors import DataError
from geobody.geometry.rotations import nearest_rotation
from geobody.training.checkpoint import load_weights

N_JOINTS = len(SMPL_JOINTS) - 1
N_LATENT = 20

EXCESS_RAD = 0.1
"""A joint that leaves its range by this much costs as much as discriminators that all say fake."""
STILL_RAD = 0.1
"""A joint whose training range is narrower, about all axes, counts as one that does not move."""


@dataclass(frozen=True)
class Verdicts:
    """What each discriminator says: near 1 real, near 0 fake."""

    joints: Tensor  # (B,23) each joint's rotation alone
    pose: Tensor  # (B,) all joints together
    shape: Tensor  # (B,) the betas alone

    def score(self) -> Tensor:
        """(B,): joints, pose and shape weigh the same, whatever their number of discriminators."""
        return (self.joints.mean(dim=1) + self.pose + self.shape) / 3


class PoseStatistics(nn.Module):
    """Mean and spread of the training poses, and the range of each joint; buffers, never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rotation_mean", torch.eye(3).expand(N_JOINTS, 3, 3).clone())
        self.register_buffer("entry_mean", torch.eye(3).flatten().expand(N_JOINTS, 9).clone())
        self.register_buffer("entry_std", torch.ones(N_JOINTS, 9))
        self.register_buffer("entry_spread", torch.ones(N_JOINTS, 9))
        self.register_buffer("betas_mean", torch.zeros(N_BETAS))
        self.register_buffer("betas_std", torch.ones(N_BETAS))
        self.register_buffer("offset_low", torch.full((N_JOINTS, 3), -torch.pi))
        self.register_buffer("offset_high", torch.full((N_JOINTS, 3), torch.pi))

    rotation_mean: Tensor
    entry_mean: Tensor
    entry_std: Tensor
    entry_spread: Tensor
    betas_mean: Tensor
    betas_std: Tensor
    offset_low: Tensor
    offset_high: Tensor

    @torch.no_grad()
    def fit(
        self, body_pose: Tensor, betas: Tensor, *, std_floor: float = 0.05, range_kept: float = 0.999
    ) -> None:
        """Takes the statistics of training poses (N,23,3,3) and shapes (N,10).

        A joint that hardly moves in the training set would otherwise turn tiny differences into
        huge inputs: hence ``std_floor``, in entries of the rotation matrix (0.05 is 3 degrees).
        """
        entries = body_pose.flatten(2)
        self.entry_mean.copy_(entries.mean(dim=0))
        self.entry_spread.copy_(entries.std(dim=0, correction=0))
        self.entry_std.copy_(self.entry_spread.clamp(min=std_floor))
        self.rotation_mean.copy_(nearest_rotation(body_pose.mean(dim=0)))
        self.betas_mean.copy_(betas.mean(dim=0))
        self.betas_std.copy_(betas.std(dim=0, correction=0).clamp(min=std_floor))
        offsets = self.offsets(body_pose)
        tail = (1 - range_kept) / 2
        self.offset_low.copy_(_quantile(offsets, tail))
        self.offset_high.copy_(_quantile(offsets, 1 - tail))

    def offsets(self, body_pose: Tensor) -> Tensor:
        """(B,23,3): rotation vectors from each joint's mean rotation, radians."""
        return matrix_to_axis_angle(self.rotation_mean.transpose(-1, -2) @ body_pose)

    def excess(self, body_pose: Tensor) -> Tensor:
        """(B,23): length of what leaves the range of the training poses, in units of EXCESS_RAD."""
        with torch.autocast(body_pose.device.type, enabled=False):
            offsets = self.offsets(body_pose.float())
            beyond = (self.offset_low - offsets).clamp(min=0) + (offsets - self.offset_high).clamp(min=0)
            return (beyond.square().sum(dim=-1) + 1e-12).sqrt() / EXCESS_RAD

    def implausible(self, body_pose: Tensor, *, tolerance_rad: float = 0.02) -> Tensor:
        """(B,J) bool, of the J joints that ``move``: rotations that leave, about any axis, the training poses' range.

        ``tolerance_rad`` keeps hinges from failing over rounding about the axes that they never turned about.
        """
        offsets = self.offsets(body_pose)
        outside = (offsets < self.offset_low - tolerance_rad) | (offsets > self.offset_high + tolerance_rad)
        return outside.any(dim=-1)[:, self.moving]

    @property
    def moving(self) -> Tensor:
        """(23,) bool: joints that turn by more than STILL_RAD about some axis in the training poses.

        A capture without fingers, say, leaves the hands still: there a degree would decide what is plausible.
        """
        return (self.offset_high - self.offset_low).amax(dim=-1) > STILL_RAD


class PoseDiscriminators(nn.Module):
    """One discriminator per joint, one over all joints, one on the shape.

    The joints share their first two layers, as in HMR; the layer over all joints reads their
    features.
    """

    def __init__(self, *, joint_units: int = 32, pose_units: int = 256, shape_units: int = 32) -> None:
        super().__init__()
        self.statistics = PoseStatistics()
        self.joint_features = nn.Sequential(
            nn.Linear(9, joint_units),
            nn.LeakyReLU(0.1),
            nn.Linear(joint_units, joint_units),
            nn.LeakyReLU(0.1),
        )
        self.joint_weight = nn.Parameter(torch.randn(N_JOINTS, joint_units) / joint_units**0.5)
        self.joint_bias = nn.Parameter(torch.full((N_JOINTS,), 0.5))
        self.pose = nn.Sequential(
            nn.Linear(N_JOINTS * (9 + joint_units), pose_units),
            nn.LeakyReLU(0.1),
            nn.Linear(pose_units, pose_units),
            nn.LeakyReLU(0.1),
            nn.Linear(pose_units, 1),
        )
        self.shape = nn.Sequential(
            nn.Linear(N_BETAS, shape_units),
            nn.LeakyReLU(0.1),
            nn.Linear(shape_units, shape_units),
            nn.LeakyReLU(0.1),
            nn.Linear(shape_units, 1),
        )

    def forward(self, body_pose: Tensor, betas: Tensor) -> Verdicts:
        """Verdicts on rotation matrices (B,23,3,3) of SMPL's joints 1..23 and on betas (B,10).

        Runs in float32 whatever the caller's precision: in bfloat16 a turn by 5 degrees changes
        the diagonal of a matrix by one unit in the last place.
        """
        with torch.autocast(body_pose.device.type, enabled=False):
            stats = self.statistics
            entries = (body_pose.float().flatten(2) - stats.entry_mean) / stats.entry_std  # (B,23,9)
            features = self.joint_features(entries)
            joints = (features * self.joint_weight).sum(dim=-1) + self.joint_bias
            pose = self.pose(torch.cat((entries, features), dim=-1).flatten(1)).squeeze(1)
            shape = self.shape((betas.float() - stats.betas_mean) / stats.betas_std).squeeze(1)
        return Verdicts(joints=joints, pose=pose, shape=shape)


class PoseGenerator(nn.Module):
    """N(0, I_20) -> rotation matrices (B,23,3,3) and betas (B,10).

    The rotations come out as 6D (Zhou et al., CVPR 2019) relative to the mean pose.
    """

    def __init__(self, *, units: int = 256) -> None:
        super().__init__()
        self.statistics = PoseStatistics()
        self.net = nn.Sequential(
            nn.Linear(N_LATENT, units),
            nn.LeakyReLU(0.1),
            nn.Linear(units, units),
            nn.LeakyReLU(0.1),
            nn.Linear(units, 6 * N_JOINTS + N_BETAS),
        )

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(latent.device.type, enabled=False):
            out = self.net(latent.float())
            identity = torch.eye(3, device=out.device)[:2].flatten()
            turn = rotation_6d_to_matrix(out[:, : 6 * N_JOINTS].unflatten(1, (N_JOINTS, 6)) + identity)
            betas = self.statistics.betas_mean + self.statistics.betas_std * out[:, 6 * N_JOINTS :]
            return self.statistics.rotation_mean @ turn, betas

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` poses and shapes; all randomness comes from ``generator``."""
        return self(torch.randn(n, N_LATENT, generator=generator).to(next(self.parameters()).device))


class PosePrior(nn.Module):
    """What other stages use: discriminators and generator, frozen."""

    def __init__(
        self,
        *,
        joint_units: int = 32,
        pose_units: int = 256,
        shape_units: int = 32,
        generator_units: int = 256,
    ) -> None:
        super().__init__()
        self.discriminators = PoseDiscriminators(
            joint_units=joint_units, pose_units=pose_units, shape_units=shape_units
        )
        self.generator = PoseGenerator(units=generator_units)
        self.config: dict[str, Any] = {
            "joint_units": joint_units,
            "pose_units": pose_units,
            "shape_units": shape_units,
            "generator_units": generator_units,
        }

    def fit_statistics(self, body_pose: Tensor, betas: Tensor) -> None:
        """Takes mean, spread and ranges from training poses (N,23,3,3) and shapes (N,10)."""
        self.discriminators.statistics.fit(body_pose, betas)
        self.generator.statistics.load_state_dict(self.discriminators.statistics.state_dict())

    def freeze(self) -> "PosePrior":
        """Itself, in eval mode and without gradients for its weights; inputs still get gradients."""
        return self.eval().requires_grad_(False)

    def realness_loss(self, body_pose: Tensor, betas: Tensor) -> Tensor:
        """Scalar: 0 where every discriminator says real; about 1 where all say fake.

        Least squares towards 1, averaged over joints, then over joints, pose and shape, so that
        it is in the same units whatever the number of joints. To it comes what joints exceed the
        range of the training poses by: discriminators are frozen, and out there, where they saw
        little, a regressor finds poses that please them.
        """
        adversarial = realness_loss(self.discriminators(body_pose, betas))
        return adversarial + self.discriminators.statistics.excess(body_pose).square().mean()

    def score(self, body_pose: Tensor, betas: Tensor) -> Tensor:
        """(B,): the higher, the more real, for rotation matrices (B,23,3,3) and betas (B,10)."""
        return self.discriminators(body_pose, betas).score()

    @torch.no_grad()
    def implausible_pct(self, body_pose: Tensor) -> float:
        """Share of rotations (B,23,3,3), of joints that move in training, outside their 99.9 % range there, in %."""
        return 100 * float(self.discriminators.statistics.implausible(body_pose).double().mean())


def realness_loss(verdicts: Verdicts) -> Tensor:
    """Least squares of the verdicts towards 1 (real): what a generator or a regressor minimises."""
    joints, pose, shape = ((v - 1).square().mean() for v in (verdicts.joints, verdicts.pose, verdicts.shape))
    return (joints + pose + shape) / 3


def load_prior(path: Path) -> PosePrior:
    """The frozen prior in a file of stage ``gan_prior``; raises DataError if it is none."""
    weights, config = load_weights(path)
    try:
        prior = PosePrior(**config)
        prior.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        raise DataError(path, "holds no pose prior", "make it again: dvc repro -f gan_prior") from error
    return prior.freeze()


def _quantile(values: Tensor, q: float) -> Tensor:
    """Order statistic along dim 0: torch.quantile refuses more than 16 million values."""
    rank = max(1, min(len(values), round(q * (len(values) - 1)) + 1))
    return torch.kthvalue(values, rank, dim=0).values
