"""Priors that train along with the regressor, beside the frozen one."""

import numpy as np
import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix, random_rotations

from geobody.data.surreal import SurrealPoses
from geobody.models.prior import PosePrior
from geobody.models.regressor import BodyParams
from geobody.models.regressor_prior import RealBodies, RegressorPrior

TRAINED = ("along", "hmr", "thesis")


def bodies(count: int, *, angle: float, seed: int = 0) -> BodyParams:
    g = torch.Generator().manual_seed(seed)
    rotations = axis_angle_to_matrix(angle * torch.randn(count, 24, 3, generator=g))
    return BodyParams(rotations, torch.randn(count, 10, generator=g))


def prior() -> PosePrior:
    torch.manual_seed(0)
    found = PosePrior()
    real = bodies(400, angle=0.1)
    found.fit_statistics(real.rotations[:, 1:], real.betas)
    return found.freeze()


def turned(params: BodyParams) -> BodyParams:
    rotations = params.rotations.clone()
    rotations[:, 0] = random_rotations(1) @ rotations[:, 0]
    return BodyParams(rotations, params.betas)


@pytest.mark.parametrize("kind", ["frozen", "along", "hmr"])
def test_a_prior_does_not_see_where_a_person_faces(kind: str) -> None:
    judge, some = RegressorPrior(kind, prior()), bodies(20, angle=0.2)
    assert torch.equal(judge.realness_loss(some), judge.realness_loss(turned(some)))


def test_the_thesis_prior_does() -> None:
    judge, some = RegressorPrior("thesis", prior()), bodies(20, angle=0.2)
    assert judge.realness_loss(some) != judge.realness_loss(turned(some))


@pytest.mark.parametrize("kind", TRAINED)
def test_discriminators_that_train_learn_to_tell_and_others_are_frozen(kind: str) -> None:
    judge = RegressorPrior(kind, prior())
    assert judge.trained
    real, fake = bodies(256, angle=0.1), bodies(256, angle=0.6, seed=1)
    before = judge.adversarial_loss(real, fake).item()
    optimizer = torch.optim.Adam(judge.discriminators.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = judge.adversarial_loss(real, fake)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * before
    unseen = bodies(100, angle=0.1, seed=2), bodies(100, angle=0.6, seed=3)
    assert judge.verdicts(unseen[0]).pose.mean() > judge.verdicts(unseen[1]).pose.mean() + 0.3


def test_a_frozen_prior_has_nothing_to_train() -> None:
    judge = RegressorPrior("frozen", prior())
    assert not judge.trained
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_leaving_the_range_of_the_poses_costs_where_ours_is_used_alone() -> None:
    far = bodies(50, angle=1.2)
    losses = {kind: RegressorPrior(kind, prior()).realness_loss(far).item() for kind in ("along", "hmr")}
    assert losses["along"] > losses["hmr"] + 1


def test_real_bodies_keep_pose_root_and_shape_together() -> None:
    rows = np.arange(6, dtype=np.float32)
    poses = SurrealPoses(
        body_pose=np.tile(0.1 * rows[:, None, None], (1, 23, 3)),
        root=np.tile(0.1 * rows[:, None], (1, 3)),
        betas=np.tile(rows[:, None], (1, 10)),
        sequence_id=np.zeros(6, np.int32),
        sequences=("01_01",),
        n_dropped=0,
    )
    drawn = RealBodies(poses, torch.device("cpu")).draw(40, torch.Generator().manual_seed(0))
    expected = axis_angle_to_matrix(0.1 * drawn.betas[:, :1, None].expand(-1, 24, 3))
    torch.testing.assert_close(drawn.rotations, expected)
    assert len(set(drawn.betas[:, 0].tolist())) == 6
