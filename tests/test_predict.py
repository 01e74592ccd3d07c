"""`Predictor`: what it says of a crop is what the pipeline says, and boxes and masks become such crops."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial.transform import Rotation

from capsule_body import capsule_body, write_capsule_body
from crop_fixtures import write_fake_shards
from geobody.body.model import BodyModel
from geobody.conventions import CROP_SIDE_MM
from geobody.data.crops import CropShards
from geobody.data.user_crops import WHOLE_DEPTH_MM
from geobody.errors import DataError, ParamsError
from geobody.geometry.cameras import project_crop
from geobody.models.encoder_decoder import embed
from geobody.models.pose_head import MlpPoseHead, predict_pose, save_pose_head
from geobody.models.regressor import SmplRegressor, posed_bodies, predict_body
from geobody.predict import NETWORKS, Predictor
from geobody.training.checkpoint import save_weights
from small_models import SIZE, room, write_models

ROOT = Path(__file__).resolve().parents[1]
BOX_MM = 1600.0
SAME_MM = 0.05
"""How far joints may be apart whose networks saw the same pixels in other batches."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def masked_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("masked"), track="masked")


@pytest.fixture(scope="module")
def predictor(models: Path) -> Predictor:
    return Predictor.open(models)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> CropShards:
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("crops"), crop_size_px=SIZE, frames=1))


def of_pipeline(folder: Path, shards: CropShards) -> dict[str, np.ndarray]:
    """What the stages ``embeddings`` and ``eval`` make of all crops with the networks of a folder."""
    network = Predictor.open(folder).network
    points, appearance = embed(network, shards, np.arange(len(shards)))
    found = predict_body(folder / "smpl_regressor.safetensors", points, appearance)
    posed = posed_bodies(BodyModel.load(folder / "body.npz"), **found)
    return {"joints_mm": predict_pose(folder / "pose_head.safetensors", points), **found, **posed}


def test_a_whole_image_is_predicted_as_the_pipeline_predicts_that_crop(
    models: Path, predictor: Predictor, shards: CropShards
) -> None:
    expected = of_pipeline(models, shards)
    assert np.ptp(expected["joints_mm"], axis=0).max() > 20 * SAME_MM  # the networks tell the crops apart
    assert np.ptp(expected["vertices_mm"], axis=0).max() > 20 * SAME_MM
    found = predictor(list(np.asarray(shards.images)))
    assert np.abs(found.joints_mm - expected["joints_mm"]).max() < SAME_MM
    assert np.abs(found.body_joints_mm - expected["joints17_mm"]).max() < SAME_MM
    relative = 1000 * found.vertices - found.root_mm[:, None]
    assert np.abs(relative - expected["vertices_mm"]).max() < SAME_MM
    np.testing.assert_allclose(found.global_orient, expected["rotations"][:, 0], atol=1e-5)
    np.testing.assert_allclose(found.body_pose, expected["rotations"][:, 1:], atol=1e-5)
    np.testing.assert_allclose(found.betas, expected["betas"], atol=1e-5)
    matrices = Rotation.from_rotvec(found.poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    np.testing.assert_allclose(matrices, expected["rotations"], atol=1e-5)


def test_a_whole_image_and_its_mask_go_the_masked_track_s_way(
    masked_models: Path, shards: CropShards
) -> None:
    expected = of_pipeline(masked_models, shards)
    predictor = Predictor.open(masked_models)
    hard = np.where(shards.masks_diff > 127, np.uint8(255), np.uint8(0))  # a user's mask has no soft edge
    sharp = CropShards(shards.images, shards.backgrounds, shards.masks, hard, shards.table)
    expected = of_pipeline(masked_models, sharp)
    found = predictor(list(np.asarray(shards.images)), masks=list(hard), crop="whole")
    assert np.abs(found.joints_mm - expected["joints_mm"]).max() < SAME_MM


def test_smpl_s_parameters_give_the_vertices(models: Path, predictor: Predictor, shards: CropShards) -> None:
    found = predictor(list(np.asarray(shards.images[:3])))
    out = BodyModel.load(models / "body.npz")(
        betas=torch.from_numpy(found.betas),
        body_pose=torch.from_numpy(found.body_pose),
        global_orient=torch.from_numpy(found.global_orient),
        transl=torch.from_numpy(found.transl),
    )
    np.testing.assert_allclose(out.vertices.numpy(), found.vertices, atol=1e-5)
    np.testing.assert_allclose(1000 * out.joints_h36m[:, 0].numpy(), found.root_mm, atol=0.01)
    assert len(found.faces) == len(capsule_body()["f"])


def test_many_images_are_predicted_as_one_by_one(predictor: Predictor) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (40, 50, 3), np.uint8) for _ in range(70)]  # more than a batch
    boxes = [(5.0 + i % 7, 3.0, 20.0, 30.0) for i in range(70)]
    together = predictor(images, boxes=boxes)
    assert len(together) == 70
    for i in (0, 65, 69):
        alone = predictor([images[i]], boxes=[boxes[i]])
        assert np.abs(alone.joints_mm[0] - together.joints_mm[i]).max() < SAME_MM
        np.testing.assert_allclose(alone.vertices[0], together.vertices[i], atol=1e-4)


def test_a_box_fills_the_share_of_its_crop_that_its_length_is_of_two_metres(predictor: Predictor) -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    image[60:220, 150:200] = 255
    crop = predictor([image], boxes=[(150, 60, 50, 160)]).crops[0]
    rows, columns = (np.flatnonzero(crop.image[..., 0].max(axis) > 127) for axis in (1, 0))
    assert len(rows) == pytest.approx(SIZE * BOX_MM / CROP_SIDE_MM, abs=1)
    assert len(columns) == pytest.approx(SIZE * BOX_MM / CROP_SIDE_MM * 50 / 160, abs=1)
    for seen in (rows, columns):
        assert (seen[0] + seen[-1]) / 2 == pytest.approx((SIZE - 1) / 2, abs=0.5)


def asymmetric_mask() -> np.ndarray:
    """A trunk at columns 30-33 of (70,90) and a thin arm to column 49: its box is (30, 20, 20, 40)."""
    mask = np.zeros((70, 90), bool)
    mask[20:60, 30:34] = mask[30, 30:50] = True
    return mask


def test_a_mask_crops_around_the_mean_of_its_pixels(predictor: Predictor) -> None:
    mask = asymmetric_mask()
    by_mask = predictor([room(90, 70)], masks=[mask]).crops[0]
    by_box = predictor([room(90, 70)], boxes=[(30, 20, 20, 40)]).crops[0]
    seen = by_mask.camera.project_camera(by_mask.root_mm)
    np.testing.assert_allclose(seen, [np.nonzero(mask)[axis].mean() for axis in (1, 0)], atol=1e-6)
    assert abs(seen[0] - by_box.camera.project_camera(by_box.root_mm)[0]) > 5  # the arm moves the box alone
    assert by_mask.virtual.depth_mm == by_box.virtual.depth_mm


def test_for_networks_of_masks_crops_a_mask_crops_as_theirs_do(predictor: Predictor) -> None:
    image, mask = room(90, 70), asymmetric_mask()
    network = {"network": predictor.network, "head": predictor.head, "regressor": predictor.regressor}
    other = Predictor(**network, body=predictor.body, mask_box_mm=BOX_MM, centred_on="mask")
    by_mask, by_box = other([image], masks=[mask]), other([image], boxes=[(30, 20, 20, 40)])
    assert np.array_equal(by_mask.crops[0].image, by_box.crops[0].image)
    np.testing.assert_array_equal(by_mask.joints_mm, by_box.joints_mm)


def test_the_same_person_elsewhere_in_the_image_is_turned_with_the_ray(predictor: Predictor) -> None:
    """What the networks see is the crop's camera; what comes out is turned back into the image's."""
    image = room(200, 100)
    crop = predictor([image], boxes=[(150, 10, 30, 80)], focal_px=150.0)
    seen = predictor.predict_crops(crop.crops)
    R = crop.crops[0].virtual.R_cam_to_crop
    whole = predictor([crop.crops[0].image])
    np.testing.assert_allclose(crop.joints_mm[0] @ R.T, whole.joints_mm[0], atol=SAME_MM)
    np.testing.assert_allclose(R @ crop.global_orient[0], whole.global_orient[0], atol=1e-5)
    np.testing.assert_array_equal(seen.joints_mm, crop.joints_mm)
    middle = crop.crops[0].camera.project_camera(crop.root_mm[0])
    np.testing.assert_allclose(middle, [164.5, 49.5], atol=1e-6)  # the root is at the middle of the box


def test_the_focal_length_sets_the_distance(predictor: Predictor, shards: CropShards) -> None:
    image = np.asarray(shards.images[0])
    near, far = (predictor([image], focal_px=f).root_mm[0] for f in (50.0, 100.0))
    np.testing.assert_allclose(far, 2 * near)
    np.testing.assert_allclose(far, [0, 0, CROP_SIDE_MM * 100 / SIZE])
    np.testing.assert_allclose(predictor([image]).root_mm[0], [0, 0, WHOLE_DEPTH_MM])
    picture = room(300, 400)
    crop = predictor([picture], boxes=[(100, 100, 50, 160)]).crops[0]
    assert crop.camera.focal_px[0] == pytest.approx(500)  # the diagonal
    assert crop.virtual.depth_mm == pytest.approx(500 * BOX_MM / 160, rel=0.1)


def test_a_larger_whole_image_is_averaged_down(predictor: Predictor, shards: CropShards) -> None:
    image = np.asarray(shards.images[0])
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    crop = predictor([large]).crops[0]
    assert np.abs(crop.image.astype(int) - image).max() <= 1
    points = np.array([[300.0, -200.0, WHOLE_DEPTH_MM]])
    in_crop = project_crop(points, focal_px=crop.virtual.focal_px, crop_size_px=SIZE)
    np.testing.assert_allclose(crop.camera.project_camera(points), 2 * (in_crop + 0.5) - 0.5)


IMAGE = room(SIZE, SIZE)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda p: p([IMAGE] * 3, boxes=[(0, 0, 9, 9)] * 2), "boxes: 2 for 3 images: give one for each"),
        (lambda p: p([IMAGE], masks=[]), "masks: 0 for 1 images"),
        (lambda p: p([]), "images: none"),
        (lambda p: p([IMAGE], boxes=[(40, 0, 9, 9)]), "image 0: box 40 0 9 9: lies outside the image, which is 32x32"),
        (lambda p: p([IMAGE], boxes=[(-9, 0, 9, 9)]), "lies outside the image"),
        (lambda p: p([IMAGE], boxes=[(1, 2, 0, 9)]), "image 0: box 1 2 0 9: a box is x, y, width, height"),
        (lambda p: p([IMAGE], boxes=[(1, 2, np.nan, 9)]), "a box is x, y, width, height"),
        (lambda p: p([IMAGE], masks=[np.zeros((SIZE, SIZE), bool)]), "image 0: its mask shows nobody"),
        (lambda p: p([IMAGE], masks=[np.ones((9, SIZE), bool)]), r"its mask is bool \(9, 32\), not uint8 or bool"),
        (lambda p: p([IMAGE], crop="box"), "image 0: has no box to be cropped by; give one, or a mask"),
        (lambda p: p([IMAGE], crop="mask"), "image 0: has no mask to be cropped by; give one, or a box"),
        (lambda p: p([IMAGE], crop="head"), "crop 'head': one of box, mask, whole"),
        (lambda p: p([IMAGE[:9]]), "image 0: is 32x9 pixels: a whole image is taken for a crop, which is square"),
        (lambda p: p([IMAGE[..., 0]], names=["a.png"]), r"a.png: is uint8 \(32, 32\): an image is uint8"),
        (lambda p: p([IMAGE / 255]), "image 0: is float64"),
        (lambda p: p([IMAGE], focal_px=0), "focal length 0 px: must be positive"),
    ],
)  # fmt: skip
def test_what_does_not_serve_is_one_line(predictor: Predictor, ask: Callable, said: str) -> None:
    with pytest.raises(ParamsError, match=said) as error:
        ask(predictor)
    assert "\n" not in str(error.value)


def test_an_encoder_of_masked_people_asks_for_masks(masked_models: Path, predictor: Predictor) -> None:
    masked = Predictor.open(masked_models)
    assert (masked.needs_masks, predictor.needs_masks) == (True, False)
    with pytest.raises(ParamsError, match=r"masks: the encoder was trained on people before black"):
        masked([IMAGE], boxes=[(0, 0, 20, 20)])
    mask = np.zeros((SIZE, SIZE), bool)
    mask[8:24, 8:24] = True
    outside = np.where(mask[..., None], IMAGE, IMAGE[::-1])
    one, other = (masked([image], boxes=[(4, 4, 24, 24)], masks=[mask]) for image in (IMAGE, outside))
    assert np.abs(one.joints_mm - other.joints_mm).max() < 20  # only the mask's soft edge lets some through
    without = (masked([image], boxes=[(4, 4, 24, 24)], masks=[mask | True]) for image in (IMAGE, outside))
    assert np.abs(next(without).joints_mm - next(without).joints_mm).max() > 20


def test_a_repository_is_found_by_its_params(tmp_path: Path, models: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["body"]["model"] = "elsewhere/body.npz"
    values["crops"] |= {"mask_box_mm": 1234.0, "centre": "mask"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "data/models").mkdir(parents=True)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name in NETWORKS:
        path = f"data/models/{name}.safetensors"
        with pytest.raises(DataError, match=rf"{path}: is missing; make it with: dvc repro \w+$") as error:
            Predictor.open(tmp_path)
        assert path in stages[str(error.value).split()[-1]]["outs"]
        (tmp_path / f"data/models/{name}.safetensors").symlink_to(models / f"{name}.safetensors")
    with pytest.raises(DataError, match=r"elsewhere/body.npz: no such body file"):
        Predictor.open(tmp_path)
    write_capsule_body(tmp_path / "elsewhere/body.npz")
    predictor = Predictor.open(tmp_path)
    assert predictor.mask_box_mm == 1234.0
    assert predictor.note_on("box") is None  # its networks know crops that are centred on masks
    assert "around the labelled root" in str(Predictor.open(models).note_on("box"))
    assert Predictor.open(models).note_on("whole") is None
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values | {"crop": {}}))
    with pytest.raises(ParamsError, match=rf"^{tmp_path}/params.yaml: crop: unknown key"):
        Predictor.open(tmp_path)


def test_a_folder_s_faults_are_named(tmp_path: Path, models: Path) -> None:
    with pytest.raises(DataError, match="nowhere: is no folder"):
        Predictor.open(tmp_path / "nowhere")
    for name in NETWORKS:
        with pytest.raises(DataError, match=rf"{name}.safetensors: is missing; put it there"):
            Predictor.open(tmp_path)
        (tmp_path / f"{name}.safetensors").write_bytes((models / f"{name}.safetensors").read_bytes())
    with pytest.raises(
        DataError, match=r"holds no body file \(.npz\); leave one there, or name it \(--body\)"
    ):
        Predictor.open(tmp_path)
    assert len(Predictor.open(tmp_path, body=models / "body.npz")([IMAGE])) == 1
    for name in ("a", "b"):
        write_capsule_body(tmp_path / f"{name}.npz")
    with pytest.raises(DataError, match="holds 2 body files"):
        Predictor.open(tmp_path)
    (tmp_path / "encoder.safetensors").write_bytes(b"no network")
    with pytest.raises(DataError, match=r"encoder.safetensors: is not a readable safetensors file"):
        Predictor.open(tmp_path, body=tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["pose_head", "smpl_regressor"])
def test_networks_of_two_runs_do_not_mix(tmp_path: Path, models: Path, name: str) -> None:
    for path in models.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / f"{name}.safetensors"
    if name == "pose_head":
        config = {"kind": "mlp", "n_points": 100, "hidden_units": 64}
        save_pose_head(path, MlpPoseHead(n_points=100, hidden_units=64), config)
    else:
        save_weights(
            path, SmplRegressor(n_points=100, hidden_units=64), {"n_points": 100, "hidden_units": 64}
        )
    with pytest.raises(DataError, match=rf"{name}.safetensors: takes embeddings of another encoder") as error:
        Predictor.open(tmp_path)
    assert "encoder.safetensors" in str(error.value)
    assert json.dumps(str(error.value)).count("\\n") == 0
