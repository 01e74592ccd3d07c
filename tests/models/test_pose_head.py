from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch3d.transforms import random_rotations
from scipy.spatial.transform import Rotation

from crop_fixtures import write_fake_shards
from geobody.config import Augmentation, HeldOut, Labels, ParamsView, PoseHead, PoseLoss, Training, Tuning
from geobody.data.crops import CropShards
from geobody.data.labels import split_labels
from geobody.errors import DataError, ParamsError
from geobody.models.encoder_decoder import embed, load_encoder_decoder, new_encoder_decoder
from geobody.models.pose_head import (
    KINDS,
    EquivariantPoseHead,
    MlpPoseHead,
    apply_pose_head,
    build_pose_head,
    load_pose_head,
    predict_pose,
    save_pose_head,
)
from geobody.models.pose_head_training import train_pose_head
from geobody.stage import Job
from geobody.training.checkpoint import save_weights
from geobody.training.schedule import Schedule
from geobody.validation import validate_pose_head
from stages import pose_head as page

N_POINTS = 20
SCHEDULE = Schedule(
    steps=300, batch_size=16, learning_rate=3e-3, weight_decay=0.0, warmup_steps=5, clip_norm=10.0
)
SETTINGS = {
    "hidden_units": 128, "dropout": 0.1, "ridge": 1e-9, "turn_share": 0.0, "schedule": SCHEDULE,
    "precision": "32-true", "threads": 1, "device": "cpu",
}  # fmt: skip


def linear_world(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (N,P,3) and joints (N,17,3) mm that are weighted sums of their points."""
    rng = np.random.default_rng(seed)
    weights = np.random.default_rng(99).normal(0, 100, (17, N_POINTS))
    weights[0] = 0
    l3d = rng.normal(0, 1, (count, N_POINTS, 3)).astype(np.float32)
    return l3d, np.einsum("jp,npc->njc", weights, l3d).astype(np.float32)


def train(folder: Path, kind: str, l3d: np.ndarray, joints: np.ndarray, **changes):
    R = np.broadcast_to(np.eye(3), (len(l3d), 3, 3))
    return train_pose_head(
        l3d=l3d, joints_mm=joints, R_world_to_crop=changes.pop("R_world_to_crop", R),
        rows=changes.pop("rows", np.arange(len(l3d))), kind=kind, seed=0,
        scratch=folder / "scratch", curves=folder / "curves.csv", **SETTINGS | changes,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    l3d, joints = linear_world(16)
    folder = tmp_path_factory.mktemp("heads")
    return {kind: train(folder / kind, kind, l3d, joints) for kind in KINDS}


def test_turning_the_points_turns_the_equivariant_heads_pose() -> None:
    head = EquivariantPoseHead(n_points=N_POINTS)
    torch.nn.init.normal_(head.weight, std=100, generator=torch.Generator().manual_seed(0))
    l3d = torch.from_numpy(linear_world(6)[0])
    for rotation in random_rotations(5):
        torch.testing.assert_close(head(l3d @ rotation.T), head(l3d) @ rotation.T, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_samples_are_learned_by_heart(kind: str, trained) -> None:
    l3d, joints = linear_world(16)
    error = np.linalg.norm(apply_pose_head(trained[kind][0], l3d) - joints, axis=-1).mean()
    spread = np.linalg.norm(joints - joints.mean(0), axis=-1).mean()
    assert error < 0.1 * spread


def test_the_equivariant_head_finds_the_world_that_is_linear(trained) -> None:
    l3d, joints = linear_world(30, seed=1)
    np.testing.assert_allclose(apply_pose_head(trained["equivariant"][0], l3d), joints, atol=0.5)


def test_a_large_ridge_shrinks_the_pose() -> None:
    l3d, joints = linear_world(40)
    sizes = []
    for ridge in (1e-9, 1.0, 100.0):
        head = EquivariantPoseHead(n_points=N_POINTS)
        head.solve(l3d, joints, ridge=ridge)
        sizes.append(float(head.weight.detach().norm()))
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_ridge_means_the_same_at_each_size_of_the_embedding() -> None:
    l3d, joints = linear_world(40)
    predictions = []
    for size in (1.0, 1000.0):
        head = EquivariantPoseHead(n_points=N_POINTS)
        head.solve(size * l3d, joints, ridge=0.1)
        predictions.append(apply_pose_head(head, size * l3d))
    np.testing.assert_allclose(*predictions, rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_other_rows_do_not_reach_the_head(kind: str, tmp_path: Path, trained) -> None:
    l3d, joints = linear_world(16)
    more = np.concatenate([l3d, linear_world(10, seed=5)[0]])
    labels = np.concatenate([joints, np.full((10, 17, 3), np.nan, np.float32)])
    head, _ = train(tmp_path, kind, more, labels, rows=np.arange(16))
    for name, value in trained[kind][0].state_dict().items():
        assert torch.equal(value, head.state_dict()[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_survive_the_file_to_the_bit_and_repeat(kind: str, tmp_path: Path, trained) -> None:
    head, config = trained[kind]
    l3d = linear_world(40, seed=2)[0]
    before = apply_pose_head(head, l3d)
    save_pose_head(tmp_path / "head.safetensors", head, config)
    for _ in range(2):  # dropout that stayed on would differ
        np.testing.assert_array_equal(predict_pose(tmp_path / "head.safetensors", l3d), before)
    assert before.dtype == np.float32
    assert (before[:, 0] == 0).all()
    assert not load_pose_head(tmp_path / "head.safetensors").training


def test_one_sample_is_predicted_as_in_a_batch(trained) -> None:
    l3d = linear_world(8, seed=3)[0]
    head = trained["mlp"][0]
    np.testing.assert_allclose(apply_pose_head(head, l3d[:1]), apply_pose_head(head, l3d)[:1], atol=1e-2)
    assert apply_pose_head(head, l3d[:0]).shape == (0, 17, 3)


def test_the_mlp_is_indifferent_to_the_unit_of_the_embedding(tmp_path: Path) -> None:
    l3d, joints = linear_world(16)
    schedule = replace(SCHEDULE, steps=20)
    small, _ = train(tmp_path / "small", "mlp", l3d, joints, schedule=schedule)
    large, _ = train(tmp_path / "large", "mlp", 1024 * l3d, joints, schedule=schedule)
    np.testing.assert_allclose(apply_pose_head(small, l3d), apply_pose_head(large, 1024 * l3d), atol=1e-2)


def test_untrained_output_is_the_mean_pose_when_the_last_layer_is_silent() -> None:
    _, joints = linear_world(50)
    head = MlpPoseHead(n_points=N_POINTS, hidden_units=8)
    head.scale.set_from(joints)
    torch.nn.init.zeros_(head.layers[-1].weight)
    torch.nn.init.zeros_(head.layers[-1].bias)
    np.testing.assert_allclose(
        apply_pose_head(head, np.zeros((1, N_POINTS, 3), np.float32))[0], joints.mean(0), atol=1e-2
    )


def test_turned_embeddings_teach_directions_that_nobody_was_labelled_in(tmp_path: Path) -> None:
    """All that is labelled faces one way; what is asked faces all ways about the cameras' common vertical."""
    tilt = Rotation.from_euler("x", 100, degrees=True).as_matrix()  # the crop's axes are not the world's
    R = np.broadcast_to(tilt, (64, 3, 3))
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 100, (17, N_POINTS)) * (np.arange(17) > 0)[:, None]
    cloud = rng.normal(0, 1, (N_POINTS, 3)) + 0.2 * rng.normal(0, 1, (128, N_POINTS, 3))
    yaw = Rotation.from_rotvec([0, 0, 1] * rng.uniform(-np.pi, np.pi, (64, 1))).as_matrix()
    turn = tilt @ yaw @ tilt.T
    seen = cloud[:64].astype(np.float32)
    asked = np.einsum("nij,npj->npi", turn, cloud[64:]).astype(np.float32)
    labels, truth = (np.einsum("jp,npc->njc", weights, x).astype(np.float32) for x in (seen, asked))
    errors = []
    for share in (0.0, 1.0):
        head, _ = train(tmp_path / str(share), "mlp", seen, labels, R_world_to_crop=R, turn_share=share)
        errors.append(np.linalg.norm(apply_pose_head(head, asked) - truth, axis=-1).mean())
    assert errors[1] < 0.5 * errors[0]


def test_curves_have_a_row_per_window(tmp_path: Path) -> None:
    l3d, joints = linear_world(16)
    train(tmp_path, "mlp", l3d, joints, schedule=replace(SCHEDULE, steps=100))
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert rows[0] == "step,total,mpjpe_17_mm"
    assert [row.split(",")[0] for row in rows[1:]] == ["50", "100"]
    assert float(rows[2].split(",")[1]) < float(rows[1].split(",")[1])


def broken_files(folder: Path) -> dict[str, Path]:
    whole = folder / "whole.safetensors"
    config = {"kind": "equivariant", "n_points": 4}
    save_pose_head(whole, build_pose_head(**config), config)
    cut = folder / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-20])
    other = folder / "other.safetensors"
    save_weights(other, {"encoder": torch.zeros(3)}, {"channels": 3})
    wrong_size = folder / "wrong_size.safetensors"
    save_weights(wrong_size, {"weight": torch.zeros(17, 4)}, {"kind": "equivariant", "n_points": 5})
    unknown = folder / "unknown.safetensors"
    save_weights(unknown, {"weight": torch.zeros(17, 4)}, {"kind": "forest", "n_points": 4})
    return {"cut": cut, "other": other, "wrong_size": wrong_size, "unknown": unknown, "none": folder / "none"}


@pytest.mark.parametrize("fault", ["cut", "other", "wrong_size", "unknown", "none"])
def test_a_file_that_holds_no_head_is_named(fault: str, tmp_path: Path) -> None:
    path = broken_files(tmp_path)[fault]
    with pytest.raises(DataError) as caught:
        load_pose_head(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "dvc repro" in message
    assert "\n" not in message


def test_embeddings_of_another_size_are_refused(tmp_path: Path) -> None:
    broken_files(tmp_path)
    with pytest.raises(DataError, match=r"takes embeddings \(N,4,3\), these are \(2, 9, 3\)"):
        predict_pose(tmp_path / "whole.safetensors", np.zeros((2, 9, 3), np.float32))


def job_of(
    folder: Path, *, arm: str, kind: str, start: str = "pretext", held_out: tuple[int, ...] = (8,)
) -> Job:
    """The stage's work in ``folder``: fake crops, and an ``arm`` as the stage encdec would leave it untrained."""
    crops = write_fake_shards(folder / "crops", frames=3)
    network = new_encoder_decoder(arm=arm, crop_size_px=32, track="rgb", seed=0)
    save_weights(folder / "encdec.safetensors", network, network.config)
    sections = {
        "pose_head": PoseHead(kind=kind),
        "tuning": Tuning(start=start, steps=6, batch_size=8, warmup_steps=1),
        "augmentation": Augmentation(),
        "pose_loss": PoseLoss(),
        "labels": Labels(),
        "held_out": HeldOut(subjects=held_out),
        "seed": 0,
        "training": Training(threads=1),
    }
    names = {"model": "model.safetensors", "encoder": "encoder.safetensors", "curves": "curves.csv"}
    outputs = {name: folder / file for name, file in names.items()}
    inputs = {"encdec": folder / "encdec.safetensors", "crops": crops}
    return Job("pose_head", ParamsView(sections), inputs, outputs, helper_scratch=folder / "scratch")


def test_from_scratch_it_makes_no_difference_what_encdec_learned(tmp_path: Path) -> None:
    written = []
    for arm, start in (("rhodin", "scratch"), ("scratch", "pretext"), ("rhodin", "pretext")):
        folder = tmp_path / f"{arm}_{start}"
        folder.mkdir()
        job = job_of(folder, arm=arm, kind="fine_tuned", start=start)
        page.main(job)
        written.append(job.outputs["encoder"].read_bytes())
    assert written[0] == written[1] != written[2]


def test_without_anybody_unlabelled_there_is_nothing_semi_supervised(tmp_path: Path) -> None:
    job = job_of(tmp_path, arm="rhodin", kind="semi_supervised", held_out=(5, 6, 7, 8))
    with pytest.raises(ParamsError, match=r"pose_head\.kind.*use fine_tuned"):
        page.main(job)
    assert not any(path.exists() for path in job.outputs.values())


@pytest.mark.parametrize("kind", ["equivariant", "fine_tuned", "semi_supervised"])
def test_the_stage_writes_a_head_and_the_encoder_that_it_is_for(kind: str, tmp_path: Path) -> None:
    job = job_of(tmp_path, arm="rhodin", kind=kind)
    inputs, outputs = job.inputs, job.outputs
    shards = CropShards.open(inputs["crops"])
    said = page.main(job)
    assert said.startswith(f"{kind} from 16 labelled images")
    assert ("72 unlabelled" in said) == (kind == "semi_supervised")  # of subjects 5, 6 and 7
    encoder = load_encoder_decoder(outputs["encoder"])
    frozen = outputs["encoder"].read_bytes() == inputs["encdec"].read_bytes()
    assert frozen == (kind == "equivariant")
    l3d, _ = embed(encoder, shards, shards.rows(split="train"))
    every = np.zeros((len(shards), *l3d.shape[1:]), np.float32)
    every[shards.rows(split="train")] = l3d
    metrics = validate_pose_head(
        outputs["model"],
        shards=shards,
        l3d=every,
        split=split_labels(shards.table, subjects=[1]),
        subjects=[1],
    )
    groups = {"labelled_train", "labelled_held_out", *(f"subject_{subject:02d}" for subject in (5, 6, 7, 8))}
    assert set(metrics) == groups | {"train_images", "held_out_images"}
    for group in groups:
        assert {"n_mpjpe_17_mm", "p_mpjpe_17_mm", "spread_mm", "true_spread_mm"} < set(metrics[group])
    assert metrics["train_images"] == 2 * 2 * 4
    assert metrics["held_out_images"] == 2 * 1 * 4
