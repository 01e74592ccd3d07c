"""Roots from joints in space and in the picture; and crops that are cut anew around them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from geobody.data.user_crops import Request, UserCrop
from geobody.models.arm import N_APPEARANCE, N_POINTS, Latent
from geobody.models.point_fields import cell_centres
from geobody.predict import Predictor
from geobody.recentring import find_roots, heat_places
from small_models import SIZE, room, write_models

FOCAL = 2.25
"""Of a crop's camera 4.5 m away, in sides of the crop."""


def people(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N,17,3) mm around roots (N,3) that stand about 4.5 m before a camera."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, [200, 400, 200], (count, 17, 3))
    joints[:, 0] = 0
    return joints, rng.normal([0, 0, 4500], [150, 150, 400], (count, 3))


def seen_at(placed_mm: np.ndarray, focal: float = FOCAL) -> np.ndarray:
    """x and y in [-1,1] from edge to edge of points (...,3) in the crop's frame."""
    return 2 * focal * placed_mm[..., :2] / placed_mm[..., 2:]


def test_the_root_is_where_joints_project_onto_their_places() -> None:
    joints, roots = people(20)
    found = find_roots(joints, seen_at(joints + roots[:, None]), focal=[FOCAL] * 20, depth_mm=[4500] * 20)
    np.testing.assert_allclose(found.places_mm, roots, atol=1e-6)
    assert found.misfit.max() < 1e-9 and found.found.all()


def test_a_wrong_place_moves_the_root_little_and_is_said_by_the_misfit() -> None:
    joints, roots = people(20)
    places = seen_at(joints + roots[:, None])
    places[:, 3, 0] += 0.2  # a tenth of a side, one joint of 17
    found = find_roots(joints, places, focal=[FOCAL] * 20, depth_mm=[4500] * 20)
    assert np.linalg.norm(found.places_mm - roots, axis=1)[:, None].max() < 400
    assert found.found.all()
    np.testing.assert_allclose(found.misfit, 0.1 / np.sqrt(17), rtol=0.2)


def test_places_of_other_joints_are_not_trusted() -> None:
    joints, roots = people(20)
    others, _ = people(20, seed=1)
    found = find_roots(joints, seen_at(others + roots[:, None]), focal=[FOCAL] * 20, depth_mm=[4500] * 20)
    assert not found.found.any()


def test_people_behind_the_camera_are_not_found() -> None:
    joints, roots = people(5)
    found = find_roots(joints, seen_at(joints - roots[:, None]), focal=[FOCAL] * 5, depth_mm=[4500] * 5)
    assert not found.found.any()


def test_people_much_nearer_than_the_box_says_are_not_found() -> None:
    joints, roots = people(20)
    places = seen_at(joints + roots[:, None])
    assert find_roots(joints, places, focal=[FOCAL] * 20, depth_mm=roots[:, 2] * 1.9).found.all()
    assert not find_roots(joints, places, focal=[FOCAL] * 20, depth_mm=roots[:, 2] * 2.1).found.any()


def test_a_hot_cell_is_a_place() -> None:
    heat = torch.full((1, 2, 16), -50.0)
    heat[0, 0, 3] = heat[0, 1, 12] = 50.0  # upper right and lower left of a map of 4 x 4
    np.testing.assert_allclose(heat_places(heat), [[[0.75, -0.75], [-0.75, 0.75]]], atol=1e-6)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


class Knowing(Predictor):
    """Its networks see in any crop where the joints are that it was told of."""

    joints_mm: np.ndarray
    root_mm: np.ndarray

    def _encode(self, crops: list[UserCrop]) -> Latent:
        heat = torch.zeros(len(crops), N_POINTS, 64 * 64)
        points = torch.zeros(len(crops), N_POINTS, 3)
        for i, crop in enumerate(crops):
            R = crop.virtual.R_cam_to_crop
            placed = (self.joints_mm + self.root_mm) @ R.T
            places = seen_at(placed, crop.virtual.focal_px / crop.virtual.crop_size_px)
            away = torch.cdist(torch.from_numpy(places).float(), cell_centres(64))
            heat[i, :17] = -400 * away.square()
            points[i, :17] = torch.from_numpy(self.joints_mm @ R.T).float()
        return Latent(points, torch.zeros(len(crops), N_APPEARANCE), heat)


class Reading(torch.nn.Module):
    """A pose head that takes the first points for the joints, in mm."""

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return points[:, :17]


@pytest.mark.parametrize("way", ["box", "mask", "whole"])
def test_crops_are_cut_anew_around_the_root(models: Path, way: str) -> None:
    opened = Predictor.open(models)
    predictor = Knowing(
        network=opened.network, head=Reading(), regressor=opened.regressor, body=opened.body, mask_box_mm=1600.0
    )  # fmt: skip
    joints, _ = people(1)
    predictor.joints_mm, predictor.root_mm = joints[0] / 2, np.array([300.0, 100.0, 5000.0])
    image = room(200, 200)
    mask = np.zeros((200, 200), bool)
    mask[60:150, 80:130] = True
    request = Request(image=image, name="x", way=way, box=(80, 60, 50, 90), mask=mask, focal_px=300.0)  # type: ignore[arg-type]
    (first,) = predictor.crops_of([request])
    (again,) = predictor.recentred([request], [first])
    if way == "whole":
        assert again is first
        return
    assert np.linalg.norm(first.root_mm - predictor.root_mm) > 400
    assert np.linalg.norm(again.root_mm - predictor.root_mm) < 50
    assert again.image.shape == (SIZE, SIZE, 3) and not np.array_equal(again.image, first.image)
    assert again.mask is not None and first.mask is not None
    assert np.abs(again.mask.astype(int) - first.mask).max() > 100  # it is cut with the image


def test_networks_that_find_no_joints_keep_their_crops(models: Path) -> None:
    predictor = Predictor.open(models)  # random weights: their heat maps tell nothing
    request = Request(image=room(90, 70), name="x", way="box", box=(30, 20, 20, 40))
    first = predictor.crops_of([request])
    assert predictor.recentred([request], first) == first
