"""Boxes in place of a labelled root: the images, the errors, and the stage."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from geobody.box_crops import BoxedImage, box_of, box_off, boxed_images
from geobody.box_errors import FIRST, PLACED_BY, BoxErrors
from geobody.data.backgrounds import write_backgrounds
from geobody.data.index import Index, build_index
from geobody.errors import DataError
from geobody.geometry.cameras import Camera
from geobody.predict import Predictor
from h36m_tree import camera_of, opencv_project, poses, write_tree
from knowing import knowing
from small_models import room, write_models


def test_a_box_holds_the_mask() -> None:
    mask = np.zeros((50, 60), np.uint8)
    mask[10:31, 20] = mask[12, 15:41] = 255
    assert box_of(mask) == (15, 10, 26, 21)


def test_a_box_that_is_off_is_off_by_the_share() -> None:
    rng = np.random.default_rng(0)
    box = (100.0, 50.0, 40.0, 80.0)
    drawn = np.array([box_off(box, 0.1, rng) for _ in range(500)])
    middle, sides = drawn[:, :2] + drawn[:, 2:] / 2, drawn[:, 2:]
    for share in ((middle - [120, 90]) / [40, 80], sides / [40, 80] - 1):
        np.testing.assert_allclose(np.abs(share), 0.1)
        assert np.all(np.abs(share.mean(0)) < 0.02)  # either way, alike
    assert box_off(box, 0.0, rng) == box


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Index, Path]:
    """Root of a small tree, its index, and its backgrounds."""
    folder = tmp_path_factory.mktemp("tree")
    root = write_tree(folder, subjects=(1, 9), frames=9, cameras=(1, 2)).root
    build_index(
        manifest=root / "manifest.parquet", output=folder / "index", train_subjects=(1,), test_subjects=(9,)
    )
    index = Index.open(folder / "index")
    write_backgrounds(index, root=root, output=folder / "backgrounds", frames=9, jobs=1)
    return root, index, folder / "backgrounds"


def boxed_of(
    tree: tuple[Path, Index, Path], rows: np.ndarray, *, index: Index | None = None
) -> list[BoxedImage]:
    root, own, backgrounds = tree
    found = boxed_images(
        index or own, rows, root=root, backgrounds=backgrounds, threshold=8.0, noise_factor=4.0
    )
    return list(found)


def test_images_come_with_their_camera_s_box_and_joints(tree: tuple[Path, Index, Path]) -> None:
    rows = np.flatnonzero(tree[1].column("split") == "test")[::4]
    found = boxed_of(tree, rows)
    assert len(found) == len(rows) > 3
    for boxed, row in zip(found, rows, strict=True):
        number, frame = (int(tree[1].column(name)[row]) for name in ("camera", "frame"))
        joints = poses(9, 2, 9)[frame - 1]
        pixels = opencv_project(joints, camera_of(number))
        np.testing.assert_allclose(boxed.camera.project_camera(boxed.joints_mm), pixels, atol=0.01)
        low, high = pixels.min(0), pixels.max(0)
        np.testing.assert_allclose(
            boxed.box, [*(low - 2), *(high - low + 5)], atol=1.5
        )  # limbs are 4 px wide


def test_without_masks_the_box_is_around_what_differs_from_the_room(tree: tuple[Path, Index, Path]) -> None:
    index = tree[1]
    none = pa.nulls(len(index), pa.string())
    unmasked = Index(index.images.set_column(3, "mask", none), index.folders, index.cameras)
    rows = np.flatnonzero(index.column("split") == "test")[::4]
    for with_mask, without in zip(boxed_of(tree, rows), boxed_of(tree, rows, index=unmasked), strict=True):
        assert without.box == box_of(without.difference)
        np.testing.assert_allclose(without.box, with_mask.box, atol=8)


def standing(name: str, *, x_mm: float) -> BoxedImage:
    """Somebody 4.5 m away in a room of colours."""
    camera = Camera(
        R_world_to_cam=np.eye(3), centre_world_mm=np.zeros(3), focal_px=np.array([250.0, 250.0]),
        principal_px=np.array([99.5, 99.5]), width_px=200, height_px=200,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    joints = rng.normal(0, [150, 350, 150], (17, 3))
    joints[0] = 0
    joints += [x_mm, 0, 4500]
    pixels = camera.project_camera(joints)
    low, high = pixels.min(0), pixels.max(0)
    box = (*low, *(high - low))
    return BoxedImage(name, room(200, 200), np.full((200, 200), 255, np.uint8), camera, box, joints)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def predictor(models: Path) -> Predictor:
    return Predictor.open(models)


def test_errors_are_those_of_the_crops(predictor: Predictor, tmp_path: Path) -> None:
    images = [standing("left", x_mm=-300), standing("right", x_mm=200), standing("middle", x_mm=0)]
    errors = BoxErrors(predictor, off=0.1, expected=3)
    for boxed in images:
        errors.add(boxed)
    metrics = errors.metrics()
    assert metrics["images"] == 3
    assert set(metrics) == {"images", *PLACED_BY, f"box{FIRST}", f"box_off{FIRST}"}
    found = predictor.predict_requests([boxed.request(boxed.box) for boxed in images])
    true = np.array([boxed.joints_mm - boxed.root_mm for boxed in images])
    expected = np.linalg.norm(found.joints_mm - true, axis=-1).mean()
    assert metrics["box"]["pose"]["mpjpe_17_mm"] == pytest.approx(expected, rel=1e-4)
    expected = np.linalg.norm(found.body_joints_mm - true, axis=-1).mean()
    assert metrics["box"]["body"]["mpjpe_17_mm"] == pytest.approx(expected, rel=1e-4)
    assert metrics["root"]["beside_px"] == metrics["root"]["depth_pct"] == 0
    assert metrics["box"]["depth_pct"] > 1 and metrics["box_off"]["beside_px"] > 0.5
    errors.draw(tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[0] > 3 * 128


def test_crops_that_are_cut_anew_are_told_from_first_ones(predictor: Predictor, models: Path) -> None:
    boxed = standing("right", x_mm=200)
    relative = boxed.joints_mm - boxed.root_mm
    sighted = knowing(models, joints_mm=relative, root_mm=boxed.root_mm)
    errors = BoxErrors(sighted, off=0.1, expected=1)
    errors.add(boxed)
    metrics = errors.metrics()
    for way in ("box", "box_off"):
        first, again = metrics[way + FIRST], metrics[way]
        assert (first["root_found_pct"], again["root_found_pct"]) == (0, 100)
        assert again["depth_pct"] < first["depth_pct"] / 5
        assert again["beside_px"] < max(first["beside_px"] / 5, 0.1)
        assert again["pose"]["mpjpe_17_mm"] < first["pose"]["mpjpe_17_mm"] / 5


def test_no_image_is_an_error(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="no test image shows anybody"):
        BoxErrors(predictor, off=0.1, expected=3).metrics()
