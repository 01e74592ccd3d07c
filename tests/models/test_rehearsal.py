"""Captured bodies are rehearsed upright, in any heading, with embeddings that a pose of theirs would have."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from capsule_body import capsule_body
from geobody.body.joints_only import joints_only
from geobody.body.model import BodyModel
from geobody.body_losses import rotation_loss
from geobody.data.surreal import SurrealPoses
from geobody.models import rehearsal
from geobody.models.regressor_prior import RealBodies
from geobody.models.rehearsal import Rehearsal

IDENTITY = Rotation.identity()
CPU = torch.device("cpu")
N = 60
LABELS = 2000


def captured(*, frame: Rotation = IDENTITY) -> SurrealPoses:
    """Standing bodies, heads along y in their own frame, of all headings, in the frame of a capture."""
    rng = np.random.default_rng(0)
    roots = Rotation.from_euler("y", rng.uniform(-180, 180, (N, 1)), degrees=True)
    roots = roots * Rotation.from_rotvec(rng.normal(0, 0.1, (N, 3)))
    return SurrealPoses(
        body_pose=rng.normal(0, 0.2, (N, 23, 3)).astype(np.float32),
        root=(frame * roots).as_rotvec().astype(np.float32),
        betas=np.zeros((N, 10), np.float32),
        sequence_id=np.zeros(N, np.int32),
        sequences=("01_01",),
        n_dropped=0,
    )


def points_of(joints_mm: np.ndarray) -> np.ndarray:
    """The 20 points of joints (N,17,3): sums of them, and a constant cloud."""
    rng = np.random.default_rng(2)
    weight, cloud = rng.normal(size=(20, 17)), rng.normal(size=(20, 3))
    return np.einsum("pj,njc->npc", weight, joints_mm / 1000) + cloud


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    """Embeddings of joints, seen by level cameras of all directions."""
    rng = np.random.default_rng(1)
    joints = rng.normal(0, 300, (LABELS, 17, 3))
    joints -= joints[:, :1]
    headings = Rotation.from_euler("z", rng.uniform(-180, 180, (LABELS, 1)), degrees=True).as_matrix()
    level = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # y down, z forward
    return {
        "l3d": points_of(joints).astype(np.float32),
        "joints_mm": joints,
        "R_world_to_crop": level @ headings,
    }


def drawn(labels: dict[str, np.ndarray], real: SurrealPoses, count: int = 200):
    body = BodyModel(arrays=joints_only(capsule_body()))
    return Rehearsal(RealBodies(real, CPU), body=body, **labels).draw(count, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("axes", ["", "x90", "z180", "x180"])
def test_bodies_stand_upright_whatever_is_up_in_their_capture(labels, axes):
    frame = Rotation.from_euler(axes[0], float(axes[1:]), degrees=True) if axes else IDENTITY
    _, bodies, joints = drawn(labels, captured(frame=frame))
    heads = bodies.rotations[:, 0, :, 1]  # SMPL's y, in crop frames, whose y points down
    assert (heads[:, 1] < -0.8).all()
    assert joints.shape == (200, 17, 3)
    assert (joints[:, 0] == 0).all()
    fronts = bodies.rotations[:, 0, :, 2]
    assert fronts.mean(0).abs().max() < 0.2  # of all headings
    assert torch.linalg.det(bodies.rotations[:, 0]).min() > 0.99


def test_an_embedding_is_what_the_joints_say_and_the_noise_of_an_image(labels, monkeypatch):
    monkeypatch.setattr(rehearsal, "NOISE", 0.0)
    l3d, _, joints = drawn(labels, captured())
    expected = points_of(joints.numpy())
    assert np.abs(l3d.numpy() - expected).mean() < 0.05 * np.abs(expected).mean()


def test_joints_get_noise_by_their_spread(labels):
    quiet = labels | {"joints_mm": labels["joints_mm"].copy()}
    quiet["joints_mm"][:, 5] = quiet["joints_mm"][0, 5]  # a joint that never moves
    body = BodyModel(arrays=joints_only(capsule_body()))
    made = Rehearsal(RealBodies(captured(), CPU), body=body, **quiet)
    assert made.noise_m[5] < 1e-6
    spread_m = float(labels["joints_mm"][:, 8].std()) / 1000
    assert float(made.noise_m[8]) == pytest.approx(rehearsal.NOISE * spread_m, rel=0.01)


def test_draws_depend_on_the_generator_alone(labels):
    one, other = drawn(labels, captured()), drawn(labels, captured())
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1].rotations, other[1].rotations)
    heavier = drawn(labels, replace(captured(), betas=np.ones((N, 10), np.float32)))
    assert not torch.equal(one[0], heavier[0])


def test_a_right_angle_costs_one():
    angles = torch.tensor([0.0, 90.0, 180.0])
    turned = torch.from_numpy(Rotation.from_euler("y", angles.numpy()[:, None], degrees=True).as_matrix())
    losses = [float(rotation_loss(x, torch.eye(3).double())) for x in turned]
    assert losses == pytest.approx([0, 1, 2], abs=1e-6)
