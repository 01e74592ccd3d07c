"""Roots from joints in space and in the picture; and crops that are cut anew around them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geobody.data.user_crops import Request
from geobody.geometry.cameras import Camera
from geobody.models.arm import Latent
from geobody.predict import RECENTRINGS, Predictor
from geobody.recentring import find_roots, heat_places
from knowing import FOCAL, Knowing, knowing, seen_at
from small_models import SIZE, room, write_models


def people(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Joints (N,17,3) mm around roots (N,3) that stand about 4.5 m before a camera."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(0, [200, 400, 200], (count, 17, 3))
    joints[:, 0] = 0
    return joints, rng.normal([0, 0, 4500], [150, 150, 400], (count, 3))


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
    assert np.linalg.norm(found.places_mm - roots, axis=1).max() < 200
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


CAMERAS = {
    "assumed": None,
    "bent": Camera(
        R_world_to_cam=np.eye(3), centre_world_mm=np.zeros(3), focal_px=np.array([300.0, 330.0]),
        principal_px=np.array([104.0, 92.0]), width_px=200, height_px=200,
        distortion=np.array([-0.2, 0.2, 0.0, 0.002, -0.001]),
    ),
}  # fmt: skip
PERSON = people(1)[0][0] / 2
ROOT_MM = np.array([300.0, 100.0, 5000.0])
BOX = (80.0, 60.0, 60.0, 80.0)
"""Around the person, but not about the middle of it."""


def request(way: str, camera: str = "assumed") -> Request:
    """An image with a box and a mask that hold the person's root."""
    mask = np.zeros((200, 200), bool)
    mask[60:140, 80:140] = True
    known = CAMERAS[camera]
    return Request(
        image=room(200, 200), name="x", way=way, box=BOX, mask=mask, camera=known,  # type: ignore[arg-type]
        focal_px=None if known else 300.0,
    )  # fmt: skip


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("way", ["box", "mask"])
def test_crops_are_cut_anew_around_the_root(models: Path, way: str, camera: str) -> None:
    predictor = knowing(models, joints_mm=PERSON, root_mm=ROOT_MM)
    asked = [request(way, camera)]
    (first,) = predictor.crops_of(asked)
    (again,) = predictor.recentred(asked, [first])
    assert predictor.encoded == RECENTRINGS
    before, after = (np.linalg.norm(crop.root_mm - ROOT_MM) for crop in (first, again))
    assert before > 400
    assert after < before / 10
    assert again.root_found and not first.root_found
    assert again.image.shape == (SIZE, SIZE, 3) and not np.array_equal(again.image, first.image)
    assert again.mask is not None and first.mask is not None
    assert np.abs(again.mask.astype(int) - first.mask).max() > 100  # it is cut with the image


def test_each_cut_comes_nearer(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distances = []
    for times in range(3):
        monkeypatch.setattr("geobody.predict.RECENTRINGS", times)
        predictor = knowing(models, joints_mm=PERSON, root_mm=ROOT_MM)
        (crop,) = predictor.recentred([request("box")], predictor.crops_of([request("box")]))
        distances.append(np.linalg.norm(crop.root_mm - ROOT_MM))
    assert distances[0] > 3 * distances[1] > 9 * distances[2]


def test_of_many_images_those_are_cut_anew_whose_box_holds_the_root(models: Path) -> None:
    predictor = knowing(models, joints_mm=PERSON, root_mm=ROOT_MM)
    asked = [
        request("box"),
        replace(request("box"), box=(0.0, 60.0, 60.0, 100.0)),  # around somebody else
        request("whole"),
        replace(request("mask"), mask=np.eye(200, dtype=bool)),
        request("mask"),
    ]
    first = predictor.crops_of(asked)
    again = predictor.recentred(asked, first)
    assert [crop.root_found for crop in again] == [True, False, False, True, True]
    assert [crop is before for crop, before in zip(again, first, strict=True)] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_networks_of_other_crops_and_without_heat_keep_theirs(models: Path) -> None:
    asked = [request("mask")]
    masked = knowing(models, joints_mm=PERSON, root_mm=ROOT_MM, centred_on="mask")
    first = masked.crops_of(asked)
    assert masked.recentred(asked, first) == first
    cold = knowing(models, joints_mm=PERSON, root_mm=ROOT_MM)
    cold._encode = lambda crops: Latent(*Knowing._encode(cold, crops)[:2])  # type: ignore[method-assign]
    first = cold.crops_of(asked)
    assert cold.recentred(asked, first) == first


@pytest.mark.parametrize(
    ("root_mm", "misplaced"),
    [
        ((0, 0, 3000), False),
        ((50, -50, 3000), False),
        ((100, 0, 3000), True),
        ((0, 0, 3600), True),
        ((0, 0, 2500), True),
    ],
)
def test_a_whole_image_that_is_no_crop_around_the_root_is_said_to_be_none(
    models: Path, root_mm: tuple[float, ...], misplaced: bool
) -> None:
    """With a focal length of 300 px an image of 200 px shows 2 m at a distance of 3 m."""
    joints = people(1)[0][0] / 4
    (found,) = (
        knowing(models, joints_mm=joints, root_mm=np.array(root_mm))
        .predict_requests([request("whole")])
        .misplaced
    )
    assert found == misplaced
    masked = knowing(models, joints_mm=joints, root_mm=np.array(root_mm), centred_on="mask")
    assert not masked.predict_requests([request("whole")]).misplaced.any()  # its crops are around no root


def test_networks_that_find_no_joints_keep_their_crops(models: Path) -> None:
    predictor = Predictor.open(models)  # random weights: their heat maps tell nothing
    asked = [Request(image=room(90, 70), name="x", way="box", box=(30, 20, 20, 40))]
    first = predictor.crops_of(asked)
    assert predictor.recentred(asked, first) == first
