import math

import pytest
import torch

from geobody.errors import ParamsError
from geobody.models.feature_pyramid import FeaturePyramid
from geobody.models.point_fields import HALF_CROP_M, PointFields, cell_centres
from geobody.models.pose_loss import NEAR_MM, UNIT_MM, heat_loss, pose_loss


def fields(**changes) -> PointFields:
    torch.manual_seed(0)
    return PointFields(**{"side": 8, "count": 17} | changes)


def test_features_have_a_quarter_and_a_sixteenth_of_the_side() -> None:
    torch.manual_seed(0)
    features = FeaturePyramid(crop_size_px=64)(torch.rand(2, 3, 64, 64))
    assert features.fine.shape == (2, 64, 16, 16)
    assert features.coarse.shape == (2, 256, 4, 4)
    with pytest.raises(ParamsError, match=r"crops.size_px: value 40: networks need a multiple of 16"):
        FeaturePyramid(crop_size_px=40)


def test_a_point_is_where_its_heat_is_and_beside_it_by_its_field() -> None:
    network = fields(count=1)
    features = torch.zeros(1, 64, 8, 8)
    features[0, 0, 2, 5] = 1.0  # row 2, column 5
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.warmth[0, 0] = 100.0
        network.slope[0, :, 0] = torch.tensor([0.0, 0.1, 0.0])
        network.offset[0] = torch.tensor([0.0, 0.0, -0.2])
    places, heat = network(features)
    x, y = (5.5 / 8 * 2 - 1) * HALF_CROP_M, (2.5 / 8 * 2 - 1) * HALF_CROP_M
    torch.testing.assert_close(places, torch.tensor([[[x, y + 0.25, -0.5]]]), atol=1e-4, rtol=0)
    assert heat.shape == (1, 1, 64)
    assert heat.argmax() == 2 * 8 + 5


def test_untrained_points_are_near_their_start_and_forgotten_ones_in_the_middle() -> None:
    start = torch.randn(17, 3)
    network = fields(start=start)
    features = 0.1 * torch.randn(2, 64, 8, 8)
    torch.testing.assert_close(network(features).places, start.expand(2, -1, -1), atol=0.05, rtol=0)
    network.forget(4)
    places = network(features).places
    torch.testing.assert_close(places[:, :4], torch.zeros(2, 4, 3), atol=0.05, rtol=0)
    torch.testing.assert_close(places[:, 4:], start[4:].expand(2, -1, -1), atol=0.05, rtol=0)


def test_cells_are_counted_row_by_row_from_edge_to_edge() -> None:
    centres = cell_centres(4)
    assert centres[1].tolist() == [-0.25, -0.75]
    assert centres[4].tolist() == [-0.75, -0.25]


def test_heat_is_best_where_the_joint_is() -> None:
    places = torch.zeros(1, 17, 2)
    places[0, 3] = torch.tensor([0.4, -0.3])
    distance = (places[:, :, None] - cell_centres(16)).square().sum(-1)
    right = -distance / (2 * (0.75 / 8) ** 2)
    assert float(heat_loss(right, places)) < 1e-6
    assert heat_loss(right.roll(1, -1), places) > 0.5
    uniform = heat_loss(torch.zeros(1, 17, 256), places)
    assert 2 < float(uniform) < math.log(256)


def test_joints_outside_the_picture_are_not_asked_for() -> None:
    places = torch.zeros(1, 17, 2)
    places[0, 5] = torch.tensor([1.2, 0.0])
    logits = torch.zeros(1, 17, 64)
    other = logits.clone()
    other[0, 5, 7] = 9.0
    assert torch.equal(heat_loss(logits, places), heat_loss(other, places))
    assert heat_loss(logits, torch.full((1, 17, 2), 2.0)) == 0


def test_distances_are_in_units_and_the_root_is_free() -> None:
    true = torch.zeros(2, 17, 3)
    wrong = true.clone()
    wrong[:, 1:, 0] = 300.0
    terms = pose_loss(wrong, None, true_mm=true, places=true[..., :2], heat_weight=1.0)
    assert set(terms) == {"total", "mpjpe_17_mm"}
    assert float(terms["total"]) == pytest.approx(math.hypot(300, NEAR_MM) / UNIT_MM)
    assert float(terms["mpjpe_17_mm"]) == pytest.approx(300 * 16 / 17)
    logits = torch.zeros(2, 20, 64)
    both = pose_loss(wrong, logits, true_mm=true, places=true[..., :2], heat_weight=2.0)
    assert float(both["total"]) == pytest.approx(float(terms["total"] + 2 * both["heat"]))
