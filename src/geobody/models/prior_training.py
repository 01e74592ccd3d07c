"""How the prior is trained and judged: fakes, losses, and the AUC of real poses against them.

A discriminator that only ever met its own generator need not know other errors than that
generator's. So it also learns from corrupted *training* poses: joints taken from other poses, and
rotation noise, pushed on towards what the discriminator takes for real. It is judged on
SURREAL's validation split: other takes than it was trained on.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pytorch3d.transforms import axis_angle_to_matrix
from torch import Tensor

from geobody.conventions import SMPL_MIRROR
from geobody.models.prior import PosePrior, Verdicts, realness_loss
from geobody.training.loop import Batch

NOISE_DEG = (5, 10, 20, 30)
"""Root mean square angles of the rotation noise that the prior is judged with."""


NOISE_SCALE_DEG = 20.0
"""A turn by this angle makes a training pose 1/e as real: what the discriminators are told."""


LURE_STEPS = 2
"""Steps down the realness loss that corrupted poses are moved by."""


def mirror(body_pose: Tensor) -> Tensor:
    """Poses (B,23,3,3) seen in a mirror: left and right change places, rotations become M R M.

    M = diag(-1, 1, 1), since x is the body's left.
    """
    across = torch.tensor([-1.0, 1.0, 1.0], device=body_pose.device)
    partner = torch.tensor(SMPL_MIRROR[1:], device=body_pose.device) - 1
    return body_pose[:, partner] * across[:, None] * across


def shuffle_joints(body_pose: Tensor, generator: torch.Generator, *, share: Tensor | float = 1.0) -> Tensor:
    """Poses (B,23,3,3) in which each joint's rotation comes from another pose of the batch.

    With ``share`` (B,1) or a number below 1 only that share of the joints is replaced.
    """
    n, joints = body_pose.shape[:2]
    rows = torch.arange(n)[:, None]
    other = (rows + torch.randint(1, max(n, 2), (n, joints), generator=generator)) % n
    replaced = torch.rand(n, joints, generator=generator) < share
    source = torch.where(replaced, other, rows).to(body_pose.device)
    return body_pose[source, torch.arange(joints, device=body_pose.device)]


def add_noise(
    body_pose: Tensor, generator: torch.Generator, *, rms_deg: Tensor | float, moving: Tensor | None = None
) -> Tensor:
    """Poses (B,23,3,3), each joint turned about a random axis by an angle of this root mean square.

    The axis is uniform on the sphere, the angle normal; ``rms_deg`` is a number or (B,1). With ``moving`` (23,) bool
    the others stay: joints that are still in all real poses would give every fake away.
    """
    n, joints = body_pose.shape[:2]
    axis = torch.nn.functional.normalize(torch.randn(n, joints, 3, generator=generator), dim=-1)
    angle = torch.deg2rad(torch.as_tensor(rms_deg)) * torch.randn(n, joints, generator=generator)
    if moving is not None:
        angle = angle * moving.cpu()
    return body_pose @ axis_angle_to_matrix(axis * angle[..., None]).to(body_pose.device)


def adversarial_step(
    prior: PosePrior,
    body_pose: Tensor,
    betas: Tensor,
    *,
    corrupted_weight: float,
    moment_weight: float,
    noise_deg: tuple[float, float],
) -> Callable[[Batch], Mapping[str, Tensor]]:
    """The ``loss_step`` of the training loop for groups "discriminator" and "generator".

    ``body_pose`` (N,23,3,3) and ``betas`` (N,10) are the training poses; ``noise_deg`` is the
    range from which the noise of a corrupted pose is drawn, evenly in its logarithm.
    """
    discriminators, generator_net = prior.discriminators, prior.generator

    def loss_step(batch: Batch) -> Mapping[str, Tensor]:
        draw, n = batch.generator, len(batch.rows)
        if batch.group == "generator":
            fake_pose, fake_betas = generator_net.sample(n, draw)
            realness = realness_loss(discriminators(fake_pose, fake_betas))
            moments = moment_loss(prior, fake_pose, fake_betas)
            return {"total": realness + moment_weight * moments, "realness": realness, "moments": moments}

        rows = torch.from_numpy(batch.rows)
        real_pose, real_betas = body_pose[rows], betas[rows]
        with torch.no_grad():
            fake_pose, fake_betas = generator_net.sample(n, draw)
        low, high = np.log(noise_deg[0]), np.log(noise_deg[1])
        noise = torch.exp(low + (high - low) * torch.rand(n, 1, generator=draw))
        noisy = lure(prior, add_noise(real_pose, draw, rms_deg=noise), real_betas, draw)
        share = 0.2 + 1.2 * torch.rand(n, 1, generator=draw)  # a third of them wholly shuffled
        shuffled = shuffle_joints(real_pose, draw, share=share)
        odd_betas = real_betas + 2 * prior.discriminators.statistics.betas_std * torch.randn(
            real_betas.shape, generator=draw
        )

        # One pass over all four quarters: a matter of speed alone, no layer mixes rows.
        verdicts = discriminators(
            torch.cat((real_pose, fake_pose, noisy, shuffled)),
            torch.cat((real_betas, fake_betas, odd_betas, real_betas)),
        )
        real, fake, noised, mixed = (_rows(verdicts, slice(k * n, (k + 1) * n)) for k in range(4))
        real_loss = realness_loss(real)
        fake_loss = _squares(fake.joints, fake.pose, fake.shape)
        # Fake by degrees, so that verdicts have a slope far from real poses too.
        angle_deg = torch.rad2deg(rotation_angle(real_pose.transpose(-1, -2) @ noisy))
        joint_target = torch.exp(-angle_deg / NOISE_SCALE_DEG)
        pose_target = torch.exp(-angle_deg.square().mean(dim=1).sqrt() / NOISE_SCALE_DEG)
        noise_loss = _squares(noised.joints - joint_target, noised.pose - pose_target, noised.shape)
        # A shuffled joint is real by itself, and so is the shape beside it: only "all joints" is told.
        corrupted_loss = (noise_loss + mixed.pose.square().mean()) / 2
        total = real_loss + fake_loss + corrupted_weight * corrupted_loss
        return {"total": total, "real": real_loss, "fake": fake_loss, "corrupted": corrupted_loss}

    return loss_step


def lure(prior: PosePrior, body_pose: Tensor, betas: Tensor, draw: torch.Generator) -> Tensor:
    """Poses (B,23,3,3) moved downhill on the realness loss, by up to 0.3 rad a joint in a few steps.

    What a regressor would do to please frozen discriminators. Shown such poses as the fakes that
    they are, the discriminators keep their slope towards real ones.
    """
    n = len(body_pose)
    reach = 0.3 * torch.rand(n, 1, 1, generator=draw).to(body_pose.device)
    moved = body_pose
    for _ in range(LURE_STEPS):
        with torch.enable_grad():
            turn = torch.zeros(n, body_pose.shape[1], 3, device=body_pose.device, requires_grad=True)
            loss = realness_loss(prior.discriminators(moved @ axis_angle_to_matrix(turn), betas))
            (slope,) = torch.autograd.grad(loss, turn)
        length = slope.square().sum(dim=-1, keepdim=True).mean(dim=1, keepdim=True).sqrt()
        moved = moved @ axis_angle_to_matrix(-reach / LURE_STEPS * slope / length.clamp(min=1e-12))
    return moved.detach()


def moment_loss(prior: PosePrior, body_pose: Tensor, betas: Tensor) -> Tensor:
    """How far mean and spread of a batch are from the training poses', in their standard deviations.

    Discriminators that see one pose at a time cannot tell a generator that repeats itself.
    """
    stats = prior.discriminators.statistics
    entries = (body_pose.flatten(2) - stats.entry_mean) / stats.entry_std
    shapes = (betas - stats.betas_mean) / stats.betas_std
    spread = (stats.entry_spread / stats.entry_std).flatten()
    pose = entries.mean(dim=0).square().mean() + (entries.std(dim=0).flatten() - spread).square().mean()
    shape = shapes.mean(dim=0).square().mean() + (shapes.std(dim=0) - 1).square().mean()
    return (pose + shape) / 2


@torch.no_grad()
def prior_auc(prior: PosePrior, body_pose: Tensor, betas: Tensor, *, seed: int) -> dict[str, float]:
    """AUC of real poses (N,23,3,3) and betas (N,10) against each kind of fake; 0.5 is chance.

    Keys: generator, shuffled, noise_5, noise_10, noise_20, noise_30 (degrees, root mean square, of joints that move).
    """
    draw, moving = torch.Generator().manual_seed(seed), prior.discriminators.statistics.moving
    real = prior.score(body_pose, betas).cpu().numpy()
    fakes = {
        "generator": prior.generator.sample(len(body_pose), draw),
        "shuffled": (shuffle_joints(body_pose, draw), betas),
    }
    fakes |= {
        f"noise_{deg}": (add_noise(body_pose, draw, rms_deg=float(deg), moving=moving), betas)
        for deg in NOISE_DEG
    }
    return {name: ranking_auc(real, prior.score(*fake).cpu().numpy()) for name, fake in fakes.items()}


@torch.no_grad()
def prior_report(
    prior: PosePrior,
    *,
    seen: tuple[Tensor, Tensor],
    unseen: tuple[Tensor, Tensor],
    seed: int,
    limit: int = 4000,
) -> dict[str, Any]:
    """AUC on poses of other takes (``auc``) and on training poses (``auc_seen``), spreads, implausible joints.

    ``seen`` and ``unseen`` are (body_pose (N,23,3,3), betas (N,10)); at most ``limit`` of each,
    drawn at random, are judged.
    """
    seen, unseen = (spread_sample(*poses, limit=limit, seed=seed) for poses in (seen, unseen))
    generated, _ = prior.generator.sample(len(unseen[0]), torch.Generator().manual_seed(seed))
    return {
        "auc": prior_auc(prior, *unseen, seed=seed),
        "auc_seen": prior_auc(prior, *seen, seed=seed),
        "spread_deg": {"generated": spread_deg(generated), "val": spread_deg(unseen[0])},
        "implausible_pct": {
            "generated": prior.implausible_pct(generated),
            "val": prior.implausible_pct(unseen[0]),
        },
    }


def spread_sample(body_pose: Tensor, betas: Tensor, *, limit: int, seed: int) -> tuple[Tensor, Tensor]:
    """At most ``limit`` poses and shapes in random order: neighbouring rows are then different moments."""
    rows = torch.from_numpy(np.random.default_rng([seed, limit]).permutation(len(betas))[:limit])
    return body_pose[rows], betas[rows]


def ranking_auc(real: np.ndarray, fake: np.ndarray) -> float:
    """The chance that a real score (N,) exceeds a fake one (M,), a tie counting half (Mann-Whitney)."""
    if not len(real) or not len(fake):
        raise ValueError("AUC needs scores on both sides")
    order = np.sort(fake)
    below = np.searchsorted(order, real, side="left")
    not_above = np.searchsorted(order, real, side="right")
    return float((below + not_above).mean() / (2 * len(fake)))


def spread_deg(body_pose: Tensor) -> float:
    """Root mean square angle between joint rotations (N,23,3,3) of neighbouring rows, degrees.

    Beside the AUC it shows a generator that repeats one pose.
    """
    angle = rotation_angle(body_pose.transpose(-1, -2) @ body_pose.roll(1, dims=0))
    return float(torch.rad2deg(angle).square().mean().sqrt())


def rotation_angle(matrices: Tensor) -> Tensor:
    """Angles (...), radians, of rotation matrices (...,3,3)."""
    cosine = (matrices.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.arccos(cosine.clamp(-1, 1))


def _rows(verdicts: Verdicts, rows: slice) -> Verdicts:
    return Verdicts(joints=verdicts.joints[rows], pose=verdicts.pose[rows], shape=verdicts.shape[rows])


def _squares(joints: Tensor, pose: Tensor, shape: Tensor) -> Tensor:
    return (joints.square().mean() + pose.square().mean() + shape.square().mean()) / 3
