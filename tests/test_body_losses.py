"""Body losses: units, what is ignored, and gradients that point where the body should go."""

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from geobody.body_losses import (
    agreement_loss,
    bilinear,
    crossentropy_loss,
    distance_to_mask,
    far_loss,
    joint_loss,
    mask_samples,
    overlap_loss,
    spread_loss,
    turned_views,
)
from geobody.render.silhouettes import SilhouetteRenderer


def square(size: int, low: int, high: int) -> torch.Tensor:
    mask = torch.zeros(1, size, size)
    mask[:, low:high, low:high] = 1
    return mask


def outward(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals of a convex body's faces (F,3), and where the faces lie from its middle."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return np.cross(b - a, c - a), (a + b + c) / 3 - vertices.mean(0)


def rotations(*shape: int, seed: int = 0) -> torch.Tensor:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(*shape, 3, 3)))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    q[..., 0] *= np.linalg.det(q)[..., None]
    return torch.from_numpy(q)


def test_a_joint_that_is_100_mm_off_costs_one():
    true = torch.zeros(2, 17, 3)
    assert joint_loss(true + torch.tensor([60.0, 0.0, 80.0]), true) == pytest.approx(1.0)


def test_overlap_is_one_minus_iou_and_leaves_empty_masks_out():
    mask = square(16, 4, 12)  # 64 px
    shifted = square(16, 8, 16)  # 16 of them shared, 112 in either
    assert overlap_loss(mask, mask) == pytest.approx(0.0)
    assert overlap_loss(shifted, mask) == pytest.approx(1 - 16 / 112)
    both = torch.cat((shifted, shifted)), torch.cat((mask, torch.zeros_like(mask)))
    assert overlap_loss(*both) == pytest.approx(1 - 16 / 112)


def hard_renderer(convex: np.ndarray, *, size_px: int) -> SilhouetteRenderer:
    """Draws the hull of points (V,3), with one sample per pixel."""
    faces = ConvexHull(convex).simplices
    inward = np.einsum("fc,fc->f", *outward(convex, faces)) < 0
    faces[inward] = faces[inward, ::-1]
    return SilhouetteRenderer(faces=torch.from_numpy(faces), size_px=size_px, backend="deodr", supersample=1)


def test_the_crossentropy_of_a_hard_raster_says_where_the_outline_is_wrong():
    """A cube that is drawn 3 px right of its mask is to go left."""
    corners = np.stack(np.meshgrid(*[[-150.0, 150.0]] * 3), -1).reshape(-1, 3)
    turned = Rotation.from_euler("xyz", [10, 20, 10], degrees=True).apply(corners)
    cube = torch.from_numpy(turned).float() + torch.tensor([0.0, 0.0, 2150.0])
    place = torch.tensor([60.0, 0.0, 0.0], requires_grad=True)
    renderer = hard_renderer(cube.numpy(), size_px=32)
    drawn = renderer((cube + place)[None], torch.tensor([100.0]))
    mask = renderer(cube[None], torch.tensor([100.0]))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    crossentropy_loss(drawn, mask).backward()
    assert place.grad is not None and place.grad[0] > 0
    assert place.grad[1].abs() < 0.25 * place.grad[0]
    assert crossentropy_loss(mask, mask) == pytest.approx(-np.log(0.9))
    assert crossentropy_loss(1 - mask, mask) == pytest.approx(-np.log(0.1))


@pytest.mark.parametrize(
    ("offset_mm", "width"), [(0.0, 0.8), (0.0, 1.2), (60.0, 0.8), (60.0, 1.0), (60.0, 1.2), (120.0, 1.0)]
)
def test_the_crossentropy_of_a_hard_raster_makes_a_body_no_wider_than_its_mask(offset_mm, width):
    """Its gradient in the width of an ellipsoid that stands beside its mask is that of its values."""
    points = np.random.default_rng(0).normal(size=(400, 3))
    ellipsoid = torch.from_numpy(
        points / np.linalg.norm(points, axis=1, keepdims=True) * [200, 500, 200]
    ).float()
    renderer = hard_renderer(ellipsoid.numpy(), size_px=128)
    far, focal = torch.tensor([offset_mm, 0.0, 5000.0]), torch.tensor([400.0])
    mask = renderer((ellipsoid + torch.tensor([0.0, 0.0, 5000.0]))[None], focal)

    def loss(scale: torch.Tensor) -> torch.Tensor:
        return crossentropy_loss(renderer((ellipsoid * scale + far)[None], focal), mask)

    scale = torch.tensor([width, 1.0, 1.0], requires_grad=True)
    loss(scale).backward()
    step = torch.tensor([0.15, 0.0, 0.0])  # wide: a hard raster changes by whole pixels
    at = scale.detach()
    slope = (loss(at + step) - loss(at - step)) / 0.3
    assert scale.grad is not None
    assert scale.grad[0] == pytest.approx(slope.item(), abs=0.06)


def test_distances_of_a_square_mask_are_euclidean():
    distance = distance_to_mask(square(16, 4, 12))[0]
    assert distance[4:12, 4:12].abs().sum() == 0
    assert distance[8, 1] == 3.0
    assert distance[0, 0] == np.sqrt(np.float32(32))  # to the bit: OpenCV alone does not repeat its own


def test_bilinear_gives_pixels_at_integers_and_means_between_with_their_gradient():
    images = torch.arange(25.0).reshape(1, 5, 5) ** 1.5
    xy = torch.tensor([[[2.0, 3.0], [0.5, 1.0], [4.0, 4.0], [9.0, -3.0]]])
    values = bilinear(images, xy)[0]
    expected = torch.stack((images[0, 3, 2], images[0, 1, :2].mean(), images[0, 4, 4]))
    assert torch.allclose(values[:3], expected)
    assert values[3] == images[0, 0, 4]
    inner = torch.rand(1, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3.8 + 0.1
    assert torch.autograd.gradcheck(lambda p: bilinear(images.double(), p), inner.requires_grad_(True))


def test_far_loss_is_measured_in_the_plane_of_the_root():
    # One vertex 10 px left of a mask's edge; the only sample lies 10 px from it, 1 px of which is slack.
    mask = square(64, 30, 34)
    xy, samples = torch.tensor([[[20.0, 32.0]]]), torch.tensor([[[30.0, 32.0]]])
    mm_per_px = 2000 / 64
    assert far_loss(xy, mask=mask, samples=samples) == pytest.approx((10 + 9) * mm_per_px / 100, rel=1e-3)


def test_far_loss_pulls_a_body_towards_a_mask_that_it_does_not_touch():
    mask = square(64, 40, 52)
    generator = torch.Generator().manual_seed(0)
    samples = mask_samples(mask, 64, generator)
    xy = (torch.rand(1, 50, 2, generator=generator) * 8 + 5).requires_grad_(True)
    far_loss(xy, mask=mask, samples=samples).backward()
    assert (xy.grad.sum(dim=1) < 0).all()  # a step against the gradient goes right and down
    moved = (xy + 33).detach()
    near, far = (far_loss(at, mask=mask, samples=samples) for at in (moved, xy.detach()))
    assert near < 0.1 * far


def test_far_loss_covers_the_part_of_the_mask_that_the_body_leaves_bare():
    mask = square(64, 20, 44)
    samples = mask_samples(mask, 200, torch.Generator().manual_seed(0))
    grid = torch.cartesian_prod(torch.arange(20.0, 44.0), torch.arange(20.0, 44.0))[None]
    assert far_loss(grid, mask=mask, samples=samples) < 1e-4
    assert far_loss(grid[:, :200], mask=mask, samples=samples) > 0.5


def test_empty_masks_judge_nobody():
    empty = torch.zeros(2, 16, 16)
    samples = mask_samples(empty, 5, torch.Generator().manual_seed(0))
    xy = torch.full((2, 3, 2), 8.0, requires_grad=True)
    loss = far_loss(xy, mask=empty, samples=samples)
    loss.backward()
    assert loss == 0 and xy.grad.abs().sum() == 0


def test_mask_samples_lie_in_the_mask_and_repeat_with_the_generator():
    mask = torch.cat((square(16, 4, 8), square(16, 10, 16)))
    drawn = mask_samples(mask, 100, torch.Generator().manual_seed(1))
    again = mask_samples(mask, 100, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, again)
    assert drawn[0].min() >= 4 and drawn[0].max() <= 7 and drawn[1].min() >= 10
    assert len(drawn[1].unique(dim=0)) > 20


def test_views_of_one_body_agree_and_one_that_is_off_pays_alone():
    R = rotations(3, 4)
    world = torch.randn(3, 1, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 300
    points = torch.einsum("icde,icpe->icpd", R, world.expand(3, 4, 20, 3)).clone()
    assert agreement_loss(points, R) < 1e-12
    points[1, 2] += torch.tensor([0.0, 100.0, 0.0])
    points.requires_grad_(True)
    loss = agreement_loss(points, R)
    assert loss.item() == pytest.approx(1 / 12, rel=0.02)
    loss.backward()
    assert points.grad[1, 2].abs().sum() > 0
    others = points.grad.clone()
    others[1, 2] = 0
    assert others.nan_to_num().abs().sum() < 1e-6


def test_turning_to_another_view_is_what_that_camera_sees():
    R_source, R_target = rotations(2, seed=1), rotations(2, 4, seed=2)
    world = torch.randn(2, 9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = torch.einsum("bij,bpj->bpi", R_source, world)
    expected = torch.einsum("bcij,bpj->bcpi", R_target, world)
    assert torch.allclose(turned_views(seen, R_source, R_target), expected)


def test_spread_is_the_variance_over_views():
    betas = torch.zeros(2, 4, 10)
    betas[0, :2, 0], betas[0, 2:, 0] = 1.0, -1.0
    assert spread_loss(betas + 3.0) == pytest.approx(4 / 80, abs=1e-6)
