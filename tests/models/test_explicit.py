"""The cloud of `explicit`: one in all views, a person's size before training, pulled from afar."""

import pytest
import torch

from geobody.losses import multi_scale_gradient
from geobody.models.arm import Cameras, Latent, Lesson, LossWeights, Views, turn_points
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.models.explicit import AGREEMENT_WEIGHT
from geobody.models.residual_encoder import BLOB_M
from geobody.training.determinism import seeded

SIZE = 64


def explicit():
    with seeded(0, "explicit"):
        return make_encoder_decoder(arm="explicit", crop_size_px=SIZE, track="rgb").eval()


def cameras(count: int) -> Cameras:
    return Cameras(focal=torch.full((count,), 2.25), depth_m=torch.full((count,), 4.5))


def lesson_of(R: torch.Tensor, mirrored: torch.Tensor) -> Lesson:
    index = torch.arange(len(R))
    images = torch.rand(len(R), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    views = Views(images, images.flip(0), (images[:, :1] > 0.5).float(), cameras(len(R)))
    return Lesson(images, views, R, mirrored, camera=index, source=index, appearance=index ^ 2)


def turns(count: int) -> torch.Tensor:
    q, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(1)))
    return q * torch.linalg.det(q)[:, None, None]


def test_one_cloud_seen_by_two_cameras_agrees_with_itself():
    R, plain = turns(4), torch.zeros(4, dtype=torch.bool)
    world = 0.3 * torch.randn(2, 200, 3, generator=torch.Generator().manual_seed(2))
    seen = turn_points(world.repeat_interleave(2, 0), R)
    network, options = explicit(), {"feature_loss": multi_scale_gradient, "weights": LossWeights()}
    looks = torch.zeros(4, 128)
    same = network.loss(Latent(seen, looks), lesson_of(R, plain), **options)
    assert float(same["agreement"].detach()) == pytest.approx(0, abs=1e-9)
    moved = seen.clone()
    moved[0, :, 0] += 0.2  # the views 0 and 1 each miss the other's cloud by 0.2 m
    apart = network.loss(Latent(moved, looks), lesson_of(R, plain), **options)
    assert float(apart["agreement"].detach()) == pytest.approx(0.04 / 2, rel=1e-4)
    alone = torch.tensor([True, False, False, False])
    unpaired = network.loss(Latent(moved, looks), lesson_of(R, alone), **options)
    assert float(unpaired["agreement"].detach()) == pytest.approx(0, abs=1e-9)
    parts = sum(
        weight * apart[name]
        for name, weight in {
            "mse": 10,
            "feature": 2,
            "mask_bce": 0.5,
            "mask_dice": 0.5,
            "coarse": 0.5,
        }.items()
    )
    torch.testing.assert_close(apart["total"], parts + AGREEMENT_WEIGHT * apart["agreement"])


def test_points_start_spread_over_a_person():
    points = explicit().encode(torch.rand(4, 3, SIZE, SIZE)).points
    torch.testing.assert_close(points.std((0, 1)), torch.tensor(BLOB_M), rtol=0.25, atol=0)
    assert points.mean((0, 1)).abs().max() < 0.1


def test_a_cloud_beside_the_person_is_pulled_to_it():
    """Half a metre off, further than the drawn balls reach: every point's step leads towards the mask."""
    network = explicit()
    masks = torch.zeros(1, 1, SIZE, SIZE)
    masks[..., 16:48, 28:36] = 1
    target = Views(masks.expand(-1, 3, -1, -1), torch.zeros(1, 3, SIZE, SIZE), masks, cameras(1))
    points = 0.05 * torch.randn(1, 200, 3, generator=torch.Generator().manual_seed(0))
    points[..., 0] += 0.5
    points.requires_grad_()
    terms = network.drawing_loss(
        Latent(points, torch.zeros(1, 128)), target, feature_loss=multi_scale_gradient, weights=LossWeights()
    )
    terms["total"].backward()
    assert (points.grad[..., 0] > 0).float().mean() > 0.9
    assert points.grad[..., 0].mean() > 1e-5
