"""The prior: what each discriminator sees, how fakes are made, and that it learns to tell them."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle, random_rotations

from geobody.conventions import SMPL_JOINTS, SMPL_MIRROR
from geobody.data.kinematics import forward_kinematics
from geobody.errors import DataError
from geobody.models.prior import (
    EXCESS_RAD,
    N_JOINTS,
    PosePrior,
    PoseStatistics,
    load_prior,
    realness_loss,
)
from geobody.models.prior_training import (
    add_noise,
    adversarial_step,
    lure,
    mirror,
    moment_loss,
    prior_report,
    ranking_auc,
    rotation_angle,
    shuffle_joints,
)
from geobody.training.checkpoint import save_weights
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import RowSampler, fit
from geobody.training.schedule import Schedule


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coupled_poses(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses with three degrees of freedom, so that every joint tells of all others."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(3, N_JOINTS, 3))
    phase = np.random.default_rng([1, seed]).uniform(-1, 1, size=(n, 3))
    betas = np.random.default_rng([2, seed]).normal(size=(n, 10))
    theta = np.einsum("nk,kjc->njc", phase, axes) * 0.5
    return axis_angle_to_matrix(torch.tensor(theta, dtype=torch.float32)), torch.tensor(betas).float()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PosePrior:
    folder = tmp_path_factory.mktemp("prior")
    body_pose, betas = coupled_poses(2000, seed=0)
    with seeded(0, "test"):
        prior = PosePrior(pose_units=64)
    prior.fit_statistics(body_pose, betas)
    fit(
        modules={"discriminator": prior.discriminators, "generator": prior.generator},
        loss_step=adversarial_step(
            prior, body_pose, betas, corrupted_weight=1.0, moment_weight=1.0, noise_deg=(3.0, 90.0)
        ),
        sampler=RowSampler(np.arange(2000), 0),
        schedule=Schedule(
            steps=200,
            batch_size=64,
            learning_rate={"discriminator": 2e-3, "generator": 1e-3},
            weight_decay=1e-4,
            warmup_steps=10,
            clip_norm=5.0,
        ),
        seed=0,
        fabric=make_fabric(precision="32-true", threads=1, device="cpu"),
        scratch=folder,
        curves=folder / "curves.csv",
        desc="prior",
    )
    return prior.freeze()


def test_unseen_real_poses_rank_above_every_fake(trained: PosePrior) -> None:
    report = prior_report(trained, seen=coupled_poses(500, 0), unseen=coupled_poses(500, 1), seed=3)
    assert report["auc"]["shuffled"] > 0.9
    assert report["auc"]["noise_30"] > 0.9
    assert report["auc"]["noise_30"] > report["auc"]["noise_10"] > report["auc"]["noise_5"] > 0.5


def test_the_generator_varies_as_the_training_poses_do(trained: PosePrior) -> None:
    report = prior_report(trained, seen=coupled_poses(500, 0), unseen=coupled_poses(500, 1), seed=3)
    assert 0.6 < report["spread_deg"]["generated"] / report["spread_deg"]["val"] < 1.5


def test_descending_the_realness_loss_brings_joints_back_into_their_range(trained: PosePrior) -> None:
    """Gradients reach the inputs though the weights are frozen."""
    clean, betas = coupled_poses(64, seed=2)
    noisy = matrix_to_axis_angle(add_noise(clean, draw(), rms_deg=25.0)).requires_grad_()
    optimizer = torch.optim.Adam([noisy], lr=0.02)
    losses, implausible = [], []
    trained.zero_grad()
    for _ in range(40):
        optimizer.zero_grad()
        pose = axis_angle_to_matrix(noisy)
        loss = trained.realness_loss(pose, betas)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        implausible.append(trained.implausible_pct(pose.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert implausible[0] > 10 and implausible[-1] < 0.3 * implausible[0]
    assert all(p.grad is None for p in trained.parameters())


def test_the_lure_lowers_the_realness_loss_and_reaches_no_further_than_it_says(trained: PosePrior) -> None:
    pose, betas = coupled_poses(64, seed=2)
    noisy = add_noise(pose, draw(), rms_deg=20.0)
    lured = lure(trained, noisy, betas, draw())
    discriminators = trained.discriminators
    assert realness_loss(discriminators(lured, betas)) < realness_loss(discriminators(noisy, betas))
    turn = rotation_angle(noisy.transpose(-1, -2) @ lured).square().mean(dim=1).sqrt()
    assert turn.mean() > 0.05 and turn.max() < 0.31


def test_each_joint_is_judged_by_itself_and_in_company() -> None:
    prior = PosePrior()
    pose, betas = random_rotations(4 * N_JOINTS).view(4, N_JOINTS, 3, 3), torch.randn(4, 10, generator=draw())
    changed = pose.clone()
    changed[:, 5] = axis_angle_to_matrix(torch.tensor([0.3, 0.2, 0.1])) @ changed[:, 5]
    before, after = prior.discriminators(pose, betas), prior.discriminators(changed, betas)
    moved = (before.joints != after.joints).any(dim=0)
    assert moved.nonzero().flatten().tolist() == [5]
    assert not torch.allclose(before.pose, after.pose)
    assert torch.equal(before.shape, after.shape)
    other = prior.discriminators(pose, betas + 1)
    assert torch.equal(before.joints, other.joints) and torch.equal(before.pose, other.pose)
    assert not torch.allclose(before.shape, other.shape)


def test_realness_loss_is_zero_where_all_say_real_and_one_where_all_say_fake() -> None:
    prior = PosePrior()
    pose, betas = coupled_poses(3, seed=0)
    for parameter in prior.discriminators.parameters():
        parameter.data.zero_()
    assert prior.realness_loss(pose, betas).item() == pytest.approx(1.0)
    for bias in (prior.discriminators.joint_bias, prior.discriminators.pose[-1].bias):
        bias.data.fill_(1.0)
    assert prior.realness_loss(pose, betas).item() == pytest.approx(1 / 3)


def test_leaving_the_range_costs_on_top_of_the_verdicts() -> None:
    prior = PosePrior()
    pose, betas = coupled_poses(500, seed=0)
    prior.fit_statistics(pose, betas)
    inside = realness_loss(prior.discriminators(pose, betas))
    assert prior.realness_loss(pose, betas).item() == pytest.approx(inside.item(), abs=0.01)
    far = add_noise(pose, draw(), rms_deg=60.0)
    assert prior.realness_loss(far, betas) > realness_loss(prior.discriminators(far, betas)) + 1


def test_verdicts_do_not_depend_on_the_precision_around_them(trained: PosePrior) -> None:
    pose, betas = coupled_poses(8, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = trained.score(pose, betas)
    assert torch.equal(inside, trained.score(pose, betas))


def test_generated_matrices_are_rotations() -> None:
    pose, betas = PosePrior().generator.sample(50, draw())
    torch.testing.assert_close(pose @ pose.transpose(-1, -2), torch.eye(3).expand_as(pose), atol=1e-5, rtol=0)
    assert (torch.linalg.det(pose) > 0).all()
    assert betas.shape == (50, 10)


def test_shuffling_keeps_each_joints_rotations_but_in_other_poses() -> None:
    pose = random_rotations(40 * N_JOINTS).view(40, N_JOINTS, 3, 3)
    shuffled = shuffle_joints(pose, draw())
    assert not (shuffled == pose).all(dim=(-1, -2)).any()
    for joint in range(N_JOINTS):
        same = (shuffled[:, None, joint] == pose[None, :, joint]).all(dim=(-1, -2))
        assert (same.sum(dim=1) == 1).all()
    half = shuffle_joints(pose, draw(), share=0.5)
    assert 0.4 < (half == pose).all(dim=(-1, -2)).float().mean() < 0.6


def test_noise_has_the_stated_root_mean_square_angle() -> None:
    pose = random_rotations(500 * N_JOINTS).view(500, N_JOINTS, 3, 3)
    turn = matrix_to_axis_angle(pose.transpose(-1, -2) @ add_noise(pose, draw(), rms_deg=12.0))
    angle = torch.rad2deg(turn.norm(dim=-1))
    assert angle.square().mean().sqrt().item() == pytest.approx(12.0, rel=0.03)
    assert (turn.mean(dim=(0, 1)).abs() < 0.01).all()
    moving = torch.arange(N_JOINTS) < 21
    turned = (add_noise(pose, draw(), rms_deg=12.0, moving=moving) != pose).any(-1).any(-1)
    assert torch.equal(turned.all(0), moving) and torch.equal(turned.any(0), moving)


def test_a_mirrored_pose_has_mirrored_joints() -> None:
    """Forward kinematics of a symmetric figure commutes with the mirror."""
    rng = np.random.default_rng(0)
    theta = np.concatenate([np.zeros((6, 1, 3)), rng.normal(size=(6, N_JOINTS, 3)) * 0.7], axis=1)
    rotations = axis_angle_to_matrix(torch.tensor(theta[:, 1:]))
    mirrored = theta.copy()
    mirrored[:, 1:] = matrix_to_axis_angle(mirror(rotations.float()).double()).numpy()
    joints, _ = forward_kinematics(theta)
    expected = joints[:, list(SMPL_MIRROR)] * np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(forward_kinematics(mirrored)[0], expected, atol=1e-5)


def test_implausible_means_outside_the_range_of_training() -> None:
    theta = torch.zeros(4001, N_JOINTS, 3)
    theta[:, 3, 0] = torch.linspace(0.0, 2.0, 4001)
    theta[:, 7, 1] = torch.linspace(-0.1, 0.1, 4001)
    theta[:, 9, 1] = torch.linspace(0.0, 0.09, 4001)  # hardly moves: is not judged
    stats = PoseStatistics()
    stats.fit(axis_angle_to_matrix(theta), torch.zeros(4001, 10))
    assert stats.moving.nonzero().flatten().tolist() == [3, 7]
    assert stats.implausible(axis_angle_to_matrix(theta)).float().mean(0).tolist() == [0.0, 0.0]
    probe = torch.zeros(3, N_JOINTS, 3)
    probe[0, 3, 0], probe[1, 3, 0], probe[2, 7, 2] = 1.9, 2.1, 0.1
    probe[2, 3, 0], probe[:, 9, 0] = 1.0, 0.5
    verdict = stats.implausible(axis_angle_to_matrix(probe))
    assert verdict.tolist() == [[False, False], [True, False], [False, True]]
    excess_rad = EXCESS_RAD * stats.excess(axis_angle_to_matrix(probe))
    np.testing.assert_allclose(excess_rad[[0, 1, 2], [3, 3, 7]], [0.0, 0.1, 0.1], atol=2e-3)


def test_moments_vanish_on_the_training_poses_alone() -> None:
    pose, betas = coupled_poses(3000, seed=0)
    prior = PosePrior()
    prior.fit_statistics(pose, betas)
    assert moment_loss(prior, pose, betas).item() < 1e-3
    one = pose[:1].expand_as(pose)
    assert moment_loss(prior, one, betas[:1].expand_as(betas)).item() > 0.5


def test_auc_counts_pairs_and_ties() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.integers(0, 6, 40).astype(float), rng.integers(0, 5, 30).astype(float)
    pairs = [1.0 if r > f else 0.5 if r == f else 0.0 for r, f in product(real, fake)]
    assert ranking_auc(real, fake) == pytest.approx(np.mean(pairs))
    with pytest.raises(ValueError, match="both sides"):
        ranking_auc(real, fake[:0])


def test_a_saved_prior_comes_back_frozen_and_the_same(trained: PosePrior, tmp_path: Path) -> None:
    path = tmp_path / "gan_prior.safetensors"
    save_weights(path, trained, trained.config)
    loaded = load_prior(path)
    pose, betas = coupled_poses(20, seed=4)
    assert torch.equal(loaded.score(pose, betas), trained.score(pose, betas))
    assert loaded.implausible_pct(pose) == trained.implausible_pct(pose)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gan_prior.safetensors"
    save_weights(path, torch.nn.Linear(2, 2), {})
    with pytest.raises(DataError, match="gan_prior"):
        load_prior(path)
    save_weights(path, torch.nn.Linear(2, 2), {"layers": 3})
    with pytest.raises(DataError, match="gan_prior"):
        load_prior(path)


def test_prior_covers_every_joint_but_the_root() -> None:
    assert len(SMPL_JOINTS) - 1 == N_JOINTS
