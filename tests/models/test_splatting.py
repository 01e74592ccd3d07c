"""Balls against the projection of the data set, a slow twin, and what lies before what."""

import cv2
import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.conventions import MM_PER_M
from geobody.data.crops import CropShards
from geobody.models import splatting
from geobody.models.arm import Cameras, turn_points
from geobody.models.encoder_decoder import load_views
from geobody.models.explicit import WIDENED_M, widened
from geobody.models.splatting import Balls, splat

SIZE = 64


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("crops") / "crops", crop_size_px=SIZE))


def balls_at(points: torch.Tensor, *, radius_m: float = 0.05, density: float = 3.0) -> Balls:
    shape = points.shape[:2]
    return Balls(points, torch.ones(*shape, 3), torch.full(shape, radius_m), torch.full(shape, density))


def camera(count: int = 1) -> Cameras:
    return Cameras(focal=torch.full((count,), 2.25), depth_m=torch.full((count,), 4.5))


def test_a_ball_turned_into_another_view_lands_where_opencv_projects_it(crops):
    """Known points of the source crop, turned and drawn: the centre of opacity is OpenCV's pixel."""
    views = crops.views(split="train")
    source, target = views[:6, 0], views[:6, 2]
    world = np.random.default_rng(0).uniform(-700, 700, (6, 3))
    R = crops.table["R_world_to_crop"]
    seen = torch.from_numpy(np.einsum("nij,nj->ni", R[source], world) / MM_PER_M).float()[:, None]
    turn = torch.from_numpy(R[target] @ R[source].transpose(0, 2, 1))
    device = torch.device("cpu")
    cameras = load_views(crops, target, device)[0].cameras
    for side in (SIZE, SIZE // 2):
        opacity = splat(balls_at(turn_points(seen, turn)), cameras, side=side)[1].sigmoid()[:, 0]
        opacity = opacity - opacity.amin((1, 2), keepdim=True)
        places = torch.arange(side, dtype=torch.float32)
        found = torch.stack([(opacity.sum(axis) * places).sum(1) for axis in (1, 2)], 1)
        found = found / opacity.sum((1, 2))[:, None]
        for n in range(6):
            focal, depth = (float(crops.table[name][target[n]]) for name in ("focal_px", "depth_mm"))
            inner = np.array([[focal, 0, (SIZE - 1) / 2], [0, focal, (SIZE - 1) / 2], [0, 0, 1]])
            turn_vector, _ = cv2.Rodrigues(R[target[n]])
            pixel, _ = cv2.projectPoints(world[n], turn_vector, np.array([0, 0, depth]), inner, None)
            factor = SIZE // side
            expected = (pixel.reshape(2) - (factor - 1) / 2) / factor
            np.testing.assert_allclose(found[n].numpy(), expected, atol=0.05)


def test_splat_agrees_with_its_formula_pixel_by_pixel():
    generator = torch.Generator().manual_seed(0)
    points = 0.4 * torch.randn(2, 30, 3, generator=generator)
    colours, radii, densities = (torch.rand(2, 30, k, generator=generator) for k in (3, 1, 1))
    balls = Balls(points, colours, 0.03 + 0.1 * radii[..., 0], densities[..., 0])
    drawn, logits = splat(balls, camera(2), side=16)
    for n, row, column in ((0, 8, 8), (1, 5, 9), (0, 12, 7)):
        tau, sums = 0.0, np.zeros(4)
        for k in range(30):
            x, y, z = points[n, k].double().numpy()
            scale = 2.25 / (4.5 + z) * 16
            radius = max(float(balls.radii_m[n, k]) * scale, splatting.LEAST_RADIUS)
            square = (column - 7.5 - x * scale) ** 2 + (row - 7.5 - y * scale) ** 2
            part = float(densities[n, k, 0]) * np.exp(-square / (2 * radius**2))
            tau += part
            sums += part * np.exp(-z / splatting.OCCLUSION_M) * np.append(colours[n, k].numpy(), 1)
        alpha = 1 - np.exp(-tau - splatting.HAZE)
        assert float(logits[n, 0, row, column].sigmoid()) == pytest.approx(alpha, abs=1e-3)
        np.testing.assert_allclose(drawn[n, :, row, column].numpy(), sums[:3] / sums[3], atol=5e-3)


def test_the_nearer_ball_hides_the_farther():
    points = torch.tensor([[[0.0, 0, -0.4], [0.0, 0, 0.4]]])
    colours = torch.tensor([[[1.0, 0, 0], [0, 0, 1.0]]])
    for order in ([0, 1], [1, 0]):
        balls = balls_at(points[:, order])._replace(colours=colours[:, order])
        drawn, _ = splat(balls, camera(), side=16)
        assert drawn[0, 0, 8, 8] > 0.95 and drawn[0, 2, 8, 8] < 0.05


def test_logits_and_gradients_are_finite_wherever_balls_are():
    points = torch.tensor([[[0.0, 0, 0], [50.0, 0, 0], [0, 0, -10.0], [0, 3.0, 4000.0]]], requires_grad=True)
    colours, logits = splat(balls_at(points, density=200.0), camera(), side=16)
    (colours.sum() + logits.sum()).backward()
    assert logits.isfinite().all() and points.grad is not None and points.grad.isfinite().all()


def test_widened_balls_keep_their_mass_and_masks_theirs():
    point = torch.zeros(1, 1, 3)
    thin = balls_at(point, radius_m=0.1, density=0.1)
    sums = []
    for widen_m in (None, 0.15):
        opacity = splat(thin, camera(), side=32, widen_m=widen_m)[1].sigmoid()
        sums.append(float((-torch.log1p(-opacity) - splatting.HAZE).sum()))
    assert sums[1] == pytest.approx(sums[0], rel=1e-3)
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0, 14:18, 15:19] = 1
    wide = widened(mask, camera())
    assert float(wide.sum()) == pytest.approx(16, rel=1e-3)
    sigma = WIDENED_M * 2.25 / 4.5 * 32
    expected = cv2.GaussianBlur(mask[0, 0].numpy(), (31, 31), sigma, borderType=cv2.BORDER_CONSTANT)
    np.testing.assert_allclose(wide[0, 0].numpy(), expected, atol=1e-3)
