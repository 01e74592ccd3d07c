import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from capsule_body import write_capsule_body
from crop_fixtures import write_fake_shards
from geobody.config import Augmentation as AugmentationParams
from geobody.config import Controls, HeldOut, Labels, ParamsView, PoseLoss, Training
from geobody.conventions import TEST_SUBJECTS
from geobody.data.crops import CropShards, write_table
from geobody.data.labels import label_splits, split_labels
from geobody.data.prior_poses import write_prior_poses
from geobody.data.surreal import SurrealPoses
from geobody.errors import DataError
from geobody.models.controls import (
    apply_cnn,
    load_cnn,
    load_mean_body,
    load_mean_pose,
    mean_pose,
    predict_cnn,
    save_controls,
)
from geobody.models.mean_body import MeanBody
from geobody.models.pose_batches import (
    Augmentation,
    PoseBatch,
    augmented,
    labelled_joints,
    load_pose_batch,
)
from geobody.models.pose_cnn import PoseCNN, images_to_tensor
from geobody.models.pose_cnn_training import CnnRecipe, train_cnn, train_cnns
from geobody.report.pose_report import pose_report
from geobody.stage import Job
from geobody.training.checkpoint import save_weights
from geobody.training.schedule import Schedule
from geobody.validation import validate_controls
from stages import controls as page

PLAIN = CnnRecipe(
    schedule=Schedule(
        steps=100, batch_size=16, learning_rate=3e-3, weight_decay=0.0, warmup_steps=10, clip_norm=10.0
    ),
    heat_weight=1.0,
    augmentation=Augmentation(
        strength=0.0, background_share=0.0, turn_deg=0.0, shift_std=0.0, zoom_std=0.0, mirror=False
    ),
    track="rgb",
)
FULL = Augmentation(
    strength=1.0, background_share=0.5, turn_deg=20.0, shift_std=0.05, zoom_std=0.1, mirror=True
)
EVERYTHING = replace(PLAIN, augmentation=FULL)
BODY = MeanBody(
    betas=np.zeros(10, np.float32),
    body_pose=np.repeat(np.eye(3, dtype=np.float32)[None], 23, 0),
    global_orient=np.diag([1, -1, -1]).astype(np.float32),
)
ERRORS = {"mpjpe_17_mm", "n_mpjpe_17_mm", "p_mpjpe_17_mm"}
POSE = mean_pose(np.random.default_rng(0).normal(0, 300, (5, 17, 3)))


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_shards(tmp_path_factory.mktemp("controls") / "crops", frames=3)


def train(crops: Path, folder: Path, rows: np.ndarray, recipe: CnnRecipe = PLAIN) -> PoseCNN:
    state = train_cnn(
        name="cnn_s1", crops=crops, rows=rows, recipe=recipe, seed=0, precision="32-true", device="cpu",
        threads=1, scratch=folder / "scratch", curves=folder / "curves.csv",
    )  # fmt: skip
    network = PoseCNN(crop_size_px=32)
    network.load_state_dict(state)
    return network.eval()


def save(path: Path, networks: dict[str, PoseCNN]) -> Path:
    states = {name: network.state_dict() for name, network in networks.items()}
    save_controls(path, cnns=states, cnn_config={"crop_size_px": 32}, pose_mm=POSE, body=BODY)
    return path


def test_mean_pose_by_hand() -> None:
    poses = np.zeros((2, 17, 3))
    poses[0, 5], poses[1, 5] = (100, 0, 40), (300, -20, 0)
    expected = np.zeros((17, 3))
    expected[5] = (200, -10, 20)
    np.testing.assert_array_equal(mean_pose(poses), expected)


def test_the_mean_pose_has_its_root_at_zero_wherever_the_labels_have_theirs() -> None:
    poses = np.random.default_rng(1).normal(0, 300, (4, 17, 3))
    poses -= poses[:, :1]
    elsewhere = poses + np.array([10.0, -500.0, 3000.0])
    np.testing.assert_allclose(mean_pose(elsewhere), mean_pose(poses), atol=1e-3)
    assert (mean_pose(poses)[0] == 0).all()


def test_sixteen_images_are_learned_by_heart(crops: Path, tmp_path: Path) -> None:
    shards = CropShards.open(crops)
    rows = shards.rows(subjects=[1])[:16]
    network = train(crops, tmp_path, rows)
    truth = shards.table["joints_mm"][rows]
    learned = pose_report(apply_cnn(network, shards.images[rows]), truth)["mpjpe_17_mm"]
    blind = pose_report(np.broadcast_to(mean_pose(truth), truth.shape), truth)["mpjpe_17_mm"]
    assert learned < 0.25 * blind


def test_labels_and_images_of_other_rows_do_not_reach_the_network(crops: Path, tmp_path: Path) -> None:
    """Training twice, on shards whose other rows differ in everything, gives the same bytes."""
    other = write_fake_shards(tmp_path / "crops", frames=3)
    rows = split_labels(CropShards.open(crops).table, subjects=[1]).train
    rest = np.setdiff1d(np.arange(len(CropShards.open(crops))), rows)
    for name in ("images", "backgrounds", "masks"):
        array = np.load(other / f"{name}.npy", mmap_mode="r+")
        array[rest] = 255 - array[rest]
        array.flush()
    joints = CropShards.open(other).table["joints_mm"].copy()
    joints[rest] = np.nan  # a leak would make every weight NaN
    write_table(other, {**CropShards.open(other).table, "joints_mm": joints})
    recipe = replace(EVERYTHING, schedule=replace(PLAIN.schedule, steps=3))
    first = train(crops, tmp_path / "first", rows, recipe).state_dict()
    second = train(other, tmp_path / "second", rows, recipe).state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_no_row_of_a_test_subject_is_labelled(crops: Path) -> None:
    table = CropShards.open(crops).table
    split = split_labels(table, subjects=[1, 5, 6, 7, 8])
    used = np.r_[split.train, split.held_out]
    assert not np.isin(table["subject"][used], TEST_SUBJECTS).any()
    assert set(used) == set(np.flatnonzero(table["is_train"]))


def test_augmented_joints_stay_on_the_augmented_limbs(crops: Path) -> None:
    """Images hold a white figure on black, so brightness at the joints' places must stay."""
    shards = CropShards.open(crops)
    rows = shards.rows(subjects=[1])
    batch = figures_of(shards, rows)
    images, masks_diff, joints, places = augmented(
        batch, replace(FULL, strength=0.0, background_share=0.0), generator=torch.Generator().manual_seed(0)
    )
    inner = slice(6, -6)  # at the border, where the picture repeats
    torch.testing.assert_close(masks_diff[..., inner, inner], images[:, :1, inner, inner])
    unchanged = augmented(batch, PLAIN.augmentation, generator=torch.Generator().manual_seed(0))

    inside = places.abs().amax(-1) < 0.9
    assert inside.float().mean() > 0.9

    def brightness(at: torch.Tensor, pictures: torch.Tensor = images) -> float:
        seen = torch.nn.functional.grid_sample(pictures[:, :1], at[:, None], align_corners=False)
        return float(seen[:, 0, 0][inside].mean())

    before = brightness(unchanged.places, batch.images)
    assert (places - unchanged.places).norm(dim=-1).mean() > 0.1
    assert brightness(places) > 0.93 * before
    assert brightness(unchanged.places) < 0.8 * before
    assert (joints - unchanged.joints_mm).norm(dim=-1).mean() > 100


def test_a_rolled_crop_shows_the_rolled_pose(crops: Path) -> None:
    """Without shift and zoom the root stays in the middle, and joints project to their places."""
    shards = CropShards.open(crops)
    rows = shards.rows(subjects=[1])
    geometry = replace(FULL, strength=0.0, background_share=0.0, shift_std=0.0, zoom_std=0.0)
    taught = augmented(figures_of(shards, rows), geometry, generator=torch.Generator().manual_seed(0))
    depth = torch.from_numpy(shards.table["depth_mm"][rows]).float()[:, None, None]
    focal = torch.from_numpy(shards.table["focal_px"][rows]).float()[:, None, None]
    pixels = focal * taught.joints_mm[..., :2] / (depth + taught.joints_mm[..., 2:])
    torch.testing.assert_close(taught.places, pixels * 2 / shards.crop_size_px, atol=1e-4, rtol=0)
    torch.testing.assert_close(taught.places[:, 0], torch.zeros(len(rows), 2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_share_of_the_crops_is_moved(share: float, crops: Path) -> None:
    shards = CropShards.open(crops)
    rows = np.resize(shards.rows(subjects=[1]), 400)
    geometry = replace(FULL, strength=0.0, background_share=0.0, turn_deg=0.0, mirror=False)
    some = replace(geometry, shift_std=0.1, zoom_std=0.2, moved_share=share)
    batch = figures_of(shards, rows)
    taught = augmented(batch, some, generator=torch.Generator().manual_seed(0))
    before = augmented(batch, PLAIN.augmentation, generator=torch.Generator().manual_seed(0))
    off = (taught.places - before.places).norm(dim=-1)
    moved, scaled = off[:, 0] > 1e-3, (off - off[:, :1]).abs().amax(1) > 1e-3
    assert moved.float().mean() == pytest.approx(share, abs=0.06)
    assert not (scaled & ~moved).any()
    assert scaled.sum() >= 0.95 * moved.sum()  # one in a hundred is scaled by less
    assert off[~moved].max() < 1e-3
    torch.testing.assert_close(taught.images[~moved], batch.images[~moved], atol=1e-4, rtol=0)
    torch.testing.assert_close(taught.joints_mm[~moved], before.joints_mm[~moved])


def test_crops_that_are_not_moved_roll_all_the_same(crops: Path) -> None:
    shards = CropShards.open(crops)
    batch = figures_of(shards, shards.rows(subjects=[1]))
    rolling = replace(FULL, strength=0.0, background_share=0.0, mirror=False, moved_share=0.0)
    taught = augmented(batch, rolling, generator=torch.Generator().manual_seed(0))
    before = augmented(batch, PLAIN.augmentation, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(taught.places[:, 0], before.places[:, 0], atol=1e-4, rtol=0)
    assert (taught.places - before.places).norm(dim=-1).mean() > 0.05


def figures_of(shards: CropShards, rows: np.ndarray) -> PoseBatch:
    """The masks of ``rows`` as white figures on black."""
    masks = images_to_tensor(shards.masks[rows][..., None])
    figures = masks.expand(-1, 3, -1, -1)
    return PoseBatch(
        images=figures,
        masks=masks,
        masks_diff=masks,
        backgrounds=torch.zeros_like(figures),
        placed_mm=torch.from_numpy(labelled_joints(shards, rows)[rows]),
        focal_px=torch.from_numpy(shards.table["focal_px"][rows]).float(),
    )


def test_augmentation_draws_from_its_generator_alone(crops: Path) -> None:
    shards = CropShards.open(crops)
    rows = shards.rows(subjects=[1])[:4]

    def batch(seed: int) -> tuple[torch.Tensor, ...]:
        loaded = load_pose_batch(
            shards, rows, labelled_joints(shards, rows)[rows], track="rgb", device=torch.device("cpu")
        )
        return augmented(loaded, FULL, generator=torch.Generator().manual_seed(seed))

    for one, same, other in zip(batch(0), batch(0), batch(1), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_both_networks_are_trained_side_by_side_as_they_are_alone(crops: Path, tmp_path: Path) -> None:
    table = CropShards.open(crops).table
    rows = {name: split_labels(table, subjects=s).train for name, s in (("cnn_s1", [1]), ("cnn_all", [1, 5]))}
    recipe = replace(
        PLAIN,
        schedule=replace(PLAIN.schedule, steps=2),
        augmentation=replace(PLAIN.augmentation, mirror=True),
    )
    longer = replace(recipe, schedule=replace(recipe.schedule, steps=3))
    states = train_cnns(
        crops=crops, rows=rows, recipes={"cnn_s1": recipe, "cnn_all": longer},
        seed=0, precision="32-true", device="cpu", scratch=tmp_path / "scratch", curves=tmp_path / "curves.csv",
    )  # fmt: skip
    alone = train(crops, tmp_path / "alone", rows["cnn_s1"], recipe).state_dict()
    for name, value in alone.items():
        assert torch.equal(value, states["cnn_s1"][name]), name
    assert not torch.equal(*(state["points.slope"] for state in states.values()))
    curves = (tmp_path / "curves.csv").read_text().splitlines()
    assert curves[0] == "network,step,total,heat,mpjpe_17_mm"
    assert [line.split(",")[:2] for line in curves[1:]] == [["cnn_s1", "2"], ["cnn_all", "3"]]


def test_a_users_error_in_a_process_of_its_own_reaches_the_user(crops: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "cnn_s1" / "cnn_s1.safetensors"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"cut off")
    with pytest.raises(
        DataError, match=r"cnn_s1\.safetensors: is not a readable safetensors file; delete it"
    ):
        train_cnns(
            crops=crops, rows=dict.fromkeys(("cnn_s1", "cnn_all"), np.arange(4)),
            recipes=dict.fromkeys(("cnn_s1", "cnn_all"), PLAIN),
            seed=0, precision="32-true", device="cpu", scratch=tmp_path, curves=tmp_path / "curves.csv",
        )  # fmt: skip


def test_everything_survives_the_file_and_predictions_to_the_bit(crops: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = {"cnn_s1": PoseCNN(crop_size_px=32), "cnn_all": PoseCNN(crop_size_px=32)}
    path = save(tmp_path / "controls.safetensors", networks)
    images = CropShards.open(crops).images[:10]
    for name, network in networks.items():
        before = apply_cnn(network, images)
        for _ in range(2):  # batch norms must be in evaluation mode
            np.testing.assert_array_equal(predict_cnn(path, name, images), before)
        assert before.shape == (10, 17, 3)
        assert (before[:, 0] == 0).all()
    np.testing.assert_array_equal(load_mean_pose(path), POSE)
    for key, value in vars(BODY).items():
        np.testing.assert_array_equal(getattr(load_mean_body(path), key), value)
    assert save(tmp_path / "again.safetensors", networks).read_bytes() == path.read_bytes()


def test_prediction_does_not_depend_on_the_batch(crops: Path) -> None:
    torch.manual_seed(0)
    network = PoseCNN(crop_size_px=32)
    images = CropShards.open(crops).images[:6]
    np.testing.assert_allclose(apply_cnn(network, images)[:1], apply_cnn(network, images[:1]), atol=1e-4)
    assert apply_cnn(network, images[:0]).shape == (0, 17, 3)


@pytest.mark.parametrize("fault", ["missing", "cut", "other weights", "other size"])
def test_a_file_that_does_not_hold_the_control_is_named(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "controls.safetensors"
    if fault == "cut":
        save(path, {"cnn_s1": PoseCNN(crop_size_px=32)})
        path.write_bytes(path.read_bytes()[:-100])
    elif fault == "other weights":
        save_weights(path, {"decoder": torch.zeros(3)}, {"channels": 3})
    elif fault == "other size":
        save_weights(path, {"cnn_s1.head.weight": torch.zeros(2, 2)}, {"cnn": {"crop_size_px": 32}})
    for load in (lambda path: load_cnn(path, "cnn_s1"), load_mean_pose, load_mean_body):
        with pytest.raises(DataError) as caught:
            load(path)
        message = str(caught.value)
        assert message.startswith(str(path))
        assert "dvc repro controls" in message
        assert "\n" not in message


def test_a_name_that_is_not_there_and_crops_of_another_size_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "controls.safetensors", {"cnn_s1": PoseCNN(crop_size_px=32)})
    with pytest.raises(DataError, match="holds no control 'cnn_all'"):
        load_cnn(path, "cnn_all")
    with pytest.raises(DataError, match=r"takes images \(N,32,32,3\), these are \(1, 48, 48, 3\)"):
        predict_cnn(path, "cnn_s1", np.zeros((1, 48, 48, 3), np.uint8))


def test_the_stage_reports_training_and_held_out_errors_and_nothing_of_the_test_subjects(
    crops: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    poses = SurrealPoses(
        body_pose=rng.normal(0, 0.2, (50, 23, 3)).astype(np.float32),
        root=np.zeros((50, 3), np.float32),
        betas=np.zeros((50, 10), np.float32),
        sequence_id=np.zeros(50, np.int32),
        sequences=("01_01",),
        n_dropped=0,
    )
    write_prior_poses(tmp_path / "prior_poses", "train", poses)
    sections = {
        "controls": Controls(steps=2, batch_size=4, warmup_steps=1),
        "augmentation": AugmentationParams(),
        "pose_loss": PoseLoss(),
        "labels": Labels(),
        "held_out": HeldOut(),
        "training": Training(threads=1),
        "seed": 0,
    }
    names = {"model": "model.safetensors", "curves": "curves.csv"}
    outputs = {name: tmp_path / file for name, file in names.items()}
    inputs = {
        "crops": crops,
        "prior_poses": tmp_path / "prior_poses",
        "body": write_capsule_body(tmp_path / "body.npz"),
    }
    job = Job("controls", ParamsView(sections), inputs, outputs, helper_scratch=tmp_path / "scratch")
    page.main(job)
    shards = CropShards.open(crops)
    metrics = validate_controls(
        outputs["model"],
        shards=shards,
        splits=label_splits(shards.table, **Labels().model_dump()),
        subjects=[1],
    )
    groups = {"labelled_train", "labelled_held_out", "ceiling_held_out"}
    groups |= {f"subject_{subject:02d}" for subject in (5, 6, 7, 8)}
    assert set(metrics) == {"mean_pose", "cnn_s1", "cnn_all"}
    for name, report in metrics.items():
        assert set(report) - {"train_images"} == groups, name
        for group in groups:
            assert set(report[group]) == ERRORS | {"spread_mm", "true_spread_mm"}
            assert all(math.isfinite(report[group][error]) and report[group][error] > 0 for error in ERRORS)
    table = CropShards.open(crops).table
    labelled = split_labels(table, subjects=[1]).train
    assert metrics["cnn_s1"]["train_images"] == len(labelled)
    expected_pose = mean_pose(table["joints_mm"][labelled])
    np.testing.assert_allclose(load_mean_pose(outputs["model"]), expected_pose, atol=1e-3)
    seen = predict_cnn(outputs["model"], "cnn_s1", CropShards.open(crops).images[labelled])
    expected = pose_report(seen, table["joints_mm"][labelled])["mpjpe_17_mm"]
    assert metrics["cnn_s1"]["labelled_train"]["mpjpe_17_mm"] == pytest.approx(expected, rel=1e-4)
    orientation = load_mean_body(outputs["model"]).global_orient
    np.testing.assert_allclose(orientation @ orientation.T, np.eye(3), atol=1e-5)
