"""Stage eval on a fabricated set: its numbers, recomputed from its table by other code.

The recomputation below is written out in plain numpy, one image at a time, and shares nothing with
the package but the names of the columns.
"""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from pytorch3d.transforms import random_rotations
from safetensors.numpy import load_file
from scipy.spatial.transform import Rotation

from capsule_body import capsule_body, write_capsule_body
from crop_fixtures import write_fake_shards
from geobody.conventions import H36M_ACTIONS
from geobody.data.crops import CropShards
from geobody.data.manifest import SCHEMA, bytes_and_sha256
from geobody.data.prior_poses import write_prior_poses
from geobody.data.surreal import SurrealPoses
from geobody.evaluation import facing_deg
from geobody.models.controls import save_controls
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.models.mean_body import MeanBody
from geobody.models.pose_cnn import PoseCNN
from geobody.models.pose_head import build_pose_head, save_pose_head
from geobody.models.prior import PosePrior
from geobody.models.regressor import SmplRegressor
from geobody.paths import STAGES
from geobody.predictions import TRUTH
from geobody.training.checkpoint import save_weights
from geobody.training.determinism import seeded

ROOT = Path(__file__).resolve().parents[1]
PREDICTIONS, METRICS = "data/eval/predictions.parquet", "metrics/eval.json"
BODY = functools.cache(capsule_body)
FURTHER = "data/eval/evaluation_bodies.parquet"
SUBJECTS = (1, 9, 11, 101, 140)
FIGURES = STAGES["eval"].figures


def fabricate(folder: Path) -> Path:
    """A folder in which stage eval can run: crops of drawn people, untrained models, random truth."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["eval"] |= {"silhouette_instants": 2, "view_instants": 2}
    params["training"]["threads"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    body_path = write_capsule_body(folder / params["body"]["model"])
    assert body_path.exists()
    crops = write_fake_shards(folder / "data/crops", subjects=SUBJECTS, actions=(2, 14), frames=3, seed=5)
    shards = CropShards.open(crops)
    rng = np.random.default_rng(0)
    embeddings = folder / "data/embeddings"
    embeddings.mkdir()
    np.save(embeddings / "l3d.npy", rng.normal(size=(len(shards), 200, 3)).astype(np.float32))
    np.save(embeddings / "lapp.npy", rng.normal(size=(len(shards), 128)).astype(np.float32))
    with seeded(0, "fabricate"):
        _models(folder / "data/models", shards)
        write_truth(folder / "data/synthetic/truth", rng)
    list_truth(folder / "data/synthetic")
    write_prior_poses(folder / "data/prior_poses", "val", _poses(rng))
    return folder


def _models(folder: Path, shards: CropShards) -> None:
    size = shards.crop_size_px
    network = make_encoder_decoder(arm="rhodin", crop_size_px=size, track="rgb")
    for name in ("encdec", "encoder"):
        save_weights(folder / f"{name}.safetensors", network, network.config)
    head_config = {"kind": "mlp", "hidden_units": 16, "dropout": 0.0}
    head = build_pose_head(**head_config)
    head.scale.set_from(shards.table["joints_mm"].astype(np.float32))
    save_pose_head(folder / "pose_head.safetensors", head, head_config)
    cnn_config = {"crop_size_px": size}
    cnns = [PoseCNN(**cnn_config) for _ in range(2)]
    turned = Rotation.from_euler("x", 180, degrees=True).as_matrix().astype(np.float32)
    save_controls(
        folder / "controls.safetensors",
        cnns=dict(zip(("cnn_s1", "cnn_all"), (cnn.state_dict() for cnn in cnns), strict=True)),
        cnn_config=cnn_config,
        pose_mm=shards.table["joints_mm"].mean(axis=0).astype(np.float32),
        body=MeanBody(
            betas=np.full(10, 0.3, np.float32),
            body_pose=np.tile(np.eye(3, dtype=np.float32), (23, 1, 1)),
            global_orient=turned,
        ),
    )
    prior = PosePrior(pose_units=16)
    small = torch.tensor(np.random.default_rng(3).normal(size=(400, 23, 3)) * 0.1)
    poses = torch.from_numpy(Rotation.from_rotvec(small.reshape(-1, 3)).as_matrix()).float()
    prior.fit_statistics(poses.view(400, 23, 3, 3), torch.randn(400, 10))
    save_weights(folder / "gan_prior.safetensors", prior, prior.config)
    regressor_config = {"hidden_units": 32, "hidden_layers": 1}
    regressor = SmplRegressor(**regressor_config)
    upright = torch.eye(3).repeat(24, 1, 1)
    upright[0] = torch.from_numpy(turned)
    regressor.set_start(rotations=upright, betas=torch.zeros(10))
    torch.nn.init.normal_(regressor.head.weight, std=0.1)
    save_weights(folder / "smpl_regressor.safetensors", regressor, regressor_config)


def write_truth(folder: Path, rng: np.random.Generator) -> None:
    """Poses of every instant that ``fabricate`` shows; roots in all directions."""
    folder.mkdir(parents=True)
    moments = [(s, a, 1, f) for s in SUBJECTS for a in (2, 14) for f in (1, 2, 3)]
    pose = rng.normal(size=(len(moments), 24, 3)) * 0.2
    pose[:, 0] = Rotation.from_matrix(random_rotations(len(moments)).numpy()).as_rotvec()
    columns = {
        name: pa.array([moment[i] for moment in moments], pa.int32())
        for i, name in enumerate(("subject", "action", "subaction", "frame"))
    }
    columns["pose"] = pa.array(pose.reshape(-1, 72).tolist(), pa.list_(pa.float32(), 72))
    columns["betas"] = pa.array(rng.normal(size=(len(moments), 10)).tolist(), pa.list_(pa.float32(), 10))
    pq.write_table(pa.table(columns), folder / "truth.parquet")


def list_truth(root: Path) -> None:
    """Writes the manifest of a data set of which eval needs the truth alone; without one, an empty manifest."""
    files = [(path, *bytes_and_sha256(root / path)) for path in (TRUTH,) if (root / path).exists()]
    columns = list(zip(*files, strict=True)) or [[], [], []]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=SCHEMA), root / "manifest.parquet")


def _poses(rng: np.random.Generator) -> SurrealPoses:
    return SurrealPoses(
        body_pose=(rng.normal(size=(60, 23, 3)) * 0.2).astype(np.float32),
        root=np.zeros((60, 3), np.float32),
        betas=rng.normal(size=(60, 10)).astype(np.float32),
        sequence_id=np.zeros(60, dtype=np.int32),
        sequences=("01_01",),
        n_dropped=0,
    )


def run_eval(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.eval"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fabricate(tmp_path_factory.mktemp("eval"))
    done = run_eval(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def metrics(run: Path) -> dict:
    return json.loads((run / METRICS).read_text())


@pytest.fixture(scope="module")
def table(run: Path) -> dict[str, np.ndarray]:
    read = pq.read_table(run / PREDICTIONS)
    return {name: np.array(read.column(name).to_pylist()) for name in read.column_names}


# ---- the recomputation: one image at a time ------------------------------------------------------


def procrustes(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """``p`` after the similarity that brings it nearest to ``g``, from the eigenvectors of Horn's
    quaternion matrix (1987): another derivation than an SVD."""
    a, b = p - p.mean(0), g - g.mean(0)
    s = a.T @ b
    skew = np.array([s[1, 2] - s[2, 1], s[2, 0] - s[0, 2], s[0, 1] - s[1, 0]])
    horn = np.zeros((4, 4))
    horn[0, 0], horn[0, 1:], horn[1:, 0] = np.trace(s), skew, skew
    horn[1:, 1:] = s + s.T - np.trace(s) * np.eye(3)
    w, x, y, z = np.linalg.eigh(horn)[1][:, -1]
    r = Rotation.from_quat([x, y, z, w]).as_matrix()
    turned = a @ r.T
    scale = (turned * b).sum() / (a * a).sum()
    return scale * turned + g.mean(0)


def orthogonal(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(p.T @ g)
    return p @ (u @ vt)


def pose_numbers(predicted: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics of one image by name; predicted and true (17,3) mm."""
    p, g = predicted - predicted[0], true - true[0]
    aligned = {
        "mpjpe": p,
        "n_mpjpe": p * (p * g).sum() / (p * p).sum(),
        "p_mpjpe": procrustes(p, g),
        "p_mpjpe_orth": orthogonal(p, g),
    }
    found = {}
    for name, q in aligned.items():
        errors = [np.sqrt(((q[j] - g[j]) ** 2).sum()) for j in range(17)]
        found[f"{name}_17_mm"] = np.mean(errors)
        found[f"{name}_16_mm"] = np.mean(errors[1:])
    errors = np.array([np.sqrt(((p[j] - g[j]) ** 2).sum()) for j in range(1, 17)])
    found["pck150"] = (errors <= 150).mean()
    found["auc"] = np.mean([(errors <= 5 * k).mean() for k in range(31)])
    return found


def over_images(
    table: dict[str, np.ndarray], one: Callable[[int], dict[str, np.ndarray]]
) -> dict[str, float]:
    """Plain means over images and means over actions of what ``one`` says of each image."""
    said = [one(i) for i in range(len(table["key"]))]
    found = {}
    for name in said[0]:
        values = np.array([s[name] for s in said])
        found[name] = values.mean()
        by_action = [values[table["action"] == a].mean() for a in sorted(set(table["action"].tolist()))]
        found[f"{name}_action_mean"] = np.mean(by_action)
    return found


def skin(theta: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and the pelvis of the capsule body, metres: SMPL's equations, joint by joint."""
    data = BODY()
    v = data["v_template"] + data["shapedirs"] @ betas
    joints = data["J_regressor"] @ v
    local = [Rotation.from_rotvec(theta[3 * k : 3 * k + 3]).as_matrix() for k in range(24)]
    feature = np.concatenate([(r - np.eye(3)).ravel() for r in local[1:]])
    v = v + data["posedirs"] @ feature
    turn, place = [local[0]], [joints[0]]
    for k in range(1, 24):
        parent = int(data["kintree_table"][0, k])
        turn.append(turn[parent] @ local[k])
        place.append(place[parent] + turn[parent] @ (joints[k] - joints[parent]))
    posed = np.zeros_like(v)
    for k in range(24):
        posed += data["weights"][:, k : k + 1] * ((v - joints[k]) @ turn[k].T + place[k])
    return posed, place[0]


def body_numbers(
    theta: np.ndarray, betas: np.ndarray, true_theta: np.ndarray, true_betas: np.ndarray
) -> dict:
    (v, pelvis), (g, g_pelvis) = skin(theta, betas), skin(true_theta, true_betas)
    (t, t_pelvis), (h, h_pelvis) = skin(np.zeros(72), betas), skin(np.zeros(72), true_betas)

    def mean_mm(difference: np.ndarray) -> float:
        return 1000 * np.sqrt((difference**2).sum(1)).mean()

    return {
        "pve_mm": mean_mm((v - pelvis) - (g - g_pelvis)),
        "p_pve_mm": mean_mm(procrustes(v, g) - g),
        "t_pve_mm": mean_mm((t - t_pelvis) - (h - h_pelvis)),
    }


@pytest.mark.parametrize(
    ("section", "column"),
    [
        ("pose", "joints_pred_mm"),
        ("smpl", "smpl_joints_pred_mm"),
        ("controls.mean_pose", "joints_mean_pose_mm"),
        ("controls.cnn_s1", "joints_cnn_s1_mm"),
        ("controls.cnn_all", "joints_cnn_all_mm"),
    ],
)
def test_pose_numbers_are_those_of_the_table(metrics: dict, table: dict, section: str, column: str) -> None:
    said = metrics
    for name in section.split("."):
        said = said[name]
    predicted, true = table[column].reshape(-1, 17, 3), table["joints_true_mm"].reshape(-1, 17, 3)
    numbers = over_images(table, lambda i: pose_numbers(predicted[i], true[i]))
    for name, value in numbers.items():
        assert said[name] == pytest.approx(value, rel=2e-5, abs=1e-3), name
    for action in (2, 14):
        rows = np.flatnonzero(table["action"] == action)
        value = np.mean([pose_numbers(predicted[i], true[i])["n_mpjpe_17_mm"] for i in rows])
        assert said["by_action"][H36M_ACTIONS[action]]["n_mpjpe_17_mm"] == pytest.approx(value, rel=2e-5)
    centred = predicted - predicted[:, :1]
    wrist = np.linalg.norm(centred[:, 16] - (true - true[:, :1])[:, 16], axis=1).mean()
    assert said["by_joint_mpjpe_mm"]["right_wrist"] == pytest.approx(wrist, rel=2e-5)
    spread = np.linalg.norm(centred - centred.mean(0), axis=2)[:, 1:].mean()
    assert said["spread_mm"] == pytest.approx(spread, rel=2e-5, abs=1e-3)
    assert said["mpjpe_16_mm"] == pytest.approx(said["mpjpe_17_mm"] * 17 / 16, rel=2e-5)


@pytest.mark.parametrize(("section", "who"), [("smpl", "pred"), ("mean_body", "mean_body")])
def test_body_numbers_are_those_of_the_table(metrics: dict, table: dict, section: str, who: str) -> None:
    said = metrics["smpl"] if section == "smpl" else metrics["controls"]["mean_body"]
    numbers = over_images(
        table,
        lambda i: body_numbers(
            table[f"theta_{who}"][i], table[f"betas_{who}"][i], table["theta_true"][i], table["betas_true"][i]
        ),
    )
    for name, value in numbers.items():
        assert said[name] == pytest.approx(value, rel=1e-4, abs=0.01), name


@pytest.fixture(scope="module")
def further(run: Path) -> dict[str, np.ndarray]:
    read = pq.read_table(run / FURTHER)
    return {name: np.array(read.column(name).to_pylist()) for name in read.column_names}


@pytest.mark.parametrize(("section", "who"), [("smpl", "pred"), ("mean_body", "mean_body")])
def test_bodies_for_evaluation_alone_have_a_section_of_their_own(
    metrics: dict, further: dict, section: str, who: str
) -> None:
    said = (metrics["smpl"] if section == "smpl" else metrics["controls"][section])["evaluation"]
    assert set(further["subject"]) == {101, 140}
    assert (said["bodies"], said["poses"], said["images"]) == (2, 12, 48)
    names = [f"{kind}_{end}" for kind in ("theta", "betas") for end in (who, "true")]
    numbers = [
        body_numbers(*(further[names[k]][i] for k in (0, 2, 1, 3))) for i in range(len(further["key"]))
    ]
    for name in ("pve_mm", "p_pve_mm", "t_pve_mm"):
        assert said[name] == pytest.approx(np.mean([n[name] for n in numbers]), rel=1e-4, abs=0.01), name


def test_joints_on_bodies_for_evaluation_alone_are_those_of_their_table(metrics: dict, further: dict) -> None:
    true = further["joints_true_mm"].reshape(-1, 17, 3)
    for said, column in (
        (metrics["pose"], "joints_pred_mm"),
        (metrics["smpl"], "smpl_joints_pred_mm"),
        (metrics["controls"]["cnn_all"], "joints_cnn_all_mm"),
    ):
        predicted = further[column].reshape(-1, 17, 3)
        numbers = [pose_numbers(p, t) for p, t in zip(predicted, true, strict=True)]
        for name in ("mpjpe_17_mm", "n_mpjpe_17_mm", "p_mpjpe_17_mm"):
            assert said["evaluation"][name] == pytest.approx(np.mean([n[name] for n in numbers]), rel=2e-5)


def test_joints_of_the_body_are_those_of_its_theta_and_beta(table: dict) -> None:
    regressor = capsule_body()["J_regressor_h36m"]
    for i in range(0, len(table["key"]), 7):
        vertices, _ = skin(table["theta_pred"][i], table["betas_pred"][i])
        joints = 1000 * regressor @ vertices
        np.testing.assert_allclose(
            (joints - joints[0]).ravel(), table["smpl_joints_pred_mm"][i], atol=0.05, rtol=1e-4
        )


def test_orientation_and_plausibility_are_those_of_the_table(metrics: dict, table: dict, run: Path) -> None:
    true = Rotation.from_rotvec(table["theta_true"][:, :3])
    angles = np.degrees((Rotation.from_rotvec(table["theta_pred"][:, :3]).inv() * true).magnitude())
    forward = true.apply([0.0, 0.0, 1.0])
    facing = np.degrees(np.arccos(np.clip(forward @ [0.0, 0.0, -1.0], -1, 1)))
    for name, who in {"all": facing >= 0, "facing": facing < 60, "away": facing > 120}.items():
        assert metrics["smpl"]["root_images"][name] == who.sum() > 0
        assert metrics["smpl"]["root_deg"][name] == pytest.approx(np.median(angles[who]), rel=1e-4)
        turned = 100 * (angles[who] > 90).mean()
        assert metrics["smpl"]["root_over_90_pct"][name] == pytest.approx(turned, rel=1e-4)

    stats = load_file(run / "data/models/gan_prior.safetensors")
    prefix = "discriminators.statistics."
    mean = Rotation.from_matrix(stats[f"{prefix}rotation_mean"])
    moving = (stats[f"{prefix}offset_high"] - stats[f"{prefix}offset_low"]).max(axis=1) > 0.1
    assert moving.any()  # all of them in the tiny set; tests of the prior have still ones
    outside = 0
    for theta in table["theta_pred"]:
        offset = (mean.inv() * Rotation.from_rotvec(theta[3:].reshape(23, 3))).as_rotvec()
        low, high = stats[f"{prefix}offset_low"] - 0.02, stats[f"{prefix}offset_high"] + 0.02
        outside += ((offset < low) | (offset > high)).any(axis=1)[moving].sum()
    judged = moving.sum() * len(table["key"])
    assert 0 < outside < judged
    assert metrics["smpl"]["implausible_pct"] == pytest.approx(100 * outside / judged, rel=1e-5)


def test_silhouettes_and_views_are_averages_of_the_table(metrics: dict, table: dict) -> None:
    for name in ("input", "others", "true_body"):
        values = table[f"iou_{name}"].astype(float)
        assert np.isfinite(values).sum() == metrics["smpl"]["iou"]["images"] == 8
        assert metrics["smpl"]["iou"][name] == pytest.approx(np.nanmean(values), rel=1e-5)
    for name, column in {"psnr_person": "psnr_person_db", "ssim_crop": "ssim_crop"}.items():
        values = table[f"nvs_{column}"].astype(float)
        assert metrics["nvs"][name] == pytest.approx(np.nanmean(values), rel=1e-5)
    assert metrics["nvs"]["images"] == 8


def test_truth_is_turned_from_the_world_into_each_crop(run: Path, table: dict) -> None:
    shards = CropShards.open(run / "data/crops")
    rows = {key: i for i, key in enumerate(shards.table["key"].tolist())}
    truth = pq.read_table(run / "data/synthetic/truth/truth.parquet").to_pylist()
    poses = {(t["subject"], t["action"], t["frame"]): t["pose"] for t in truth}
    for i, key in enumerate(table["key"].tolist()):
        pose = np.array(poses[table["subject"][i], table["action"][i], table["frame"][i]])
        R = shards.table["R_world_to_crop"][rows[key]] @ Rotation.from_rotvec(pose[:3]).as_matrix()
        seen = Rotation.from_rotvec(table["theta_true"][i, :3]).as_matrix()
        np.testing.assert_allclose(seen, R, atol=1e-5)
        np.testing.assert_allclose(
            Rotation.from_rotvec(table["theta_true"][i, 3:].reshape(-1, 3)).as_matrix(),
            Rotation.from_rotvec(pose[3:].reshape(-1, 3)).as_matrix(),
            atol=1e-5,
        )


def test_the_table_has_each_test_image_once_and_says_what_was_tested(
    metrics: dict, table: dict, run: Path
) -> None:
    shards = CropShards.open(run / "data/crops")
    assert sorted(table["key"].tolist()) == sorted(
        shards.table["key"][np.isin(shards.table["subject"], [9, 11])].tolist()
    )
    assert metrics["test"]["images"] == len(table["key"]) == 48
    assert metrics["test"]["subjects"] == "S9 S11"
    assert metrics["test"]["stride_frames"] == 1
    for name in ("generator", "shuffled", "noise_5", "noise_10", "noise_20", "noise_30"):
        assert 0 <= metrics["prior"]["auc"][name] <= 1
    assert set(metrics["pose"]["rolled"]) == {"0", "5", "15", "45"}


def test_figures_are_small_and_a_second_run_repeats_every_byte(run: Path) -> None:
    paths = [
        run / PREDICTIONS,
        run / FURTHER,
        run / METRICS,
        *(run / path for path in FIGURES.values()),
    ]
    before = [path.read_bytes() for path in paths]
    assert all(len(data) <= 600_000 for data in before)
    done = run_eval(run)
    assert done.returncode == 0, done.stderr
    assert [path.read_bytes() for path in paths] == before


def test_a_set_without_truth_has_every_number_that_needs_none(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "no_truth"
    folder.mkdir()
    (folder / "params.yaml").write_bytes((run / "params.yaml").read_bytes())
    (folder / "data").mkdir()
    for name in ("body", "crops", "embeddings", "models", "prior_poses"):
        (folder / "data" / name).symlink_to(run / "data" / name)
    (folder / "data/synthetic").mkdir()
    list_truth(folder / "data/synthetic")
    done = run_eval(folder)
    assert done.returncode == 0, done.stderr
    known, unknown = (json.loads((f / METRICS).read_text()) for f in (run, folder))
    assert unknown["pose"] == known["pose"]
    assert "pve_mm" not in unknown["smpl"] and "mean_body" not in unknown["controls"]
    assert "pve_mm" not in unknown["smpl"]["evaluation"]
    assert unknown["smpl"]["n_mpjpe_17_mm"] == known["smpl"]["n_mpjpe_17_mm"]
    assert pq.read_table(folder / PREDICTIONS).column("theta_true").null_count == 48


def test_truth_that_lacks_an_image_is_a_data_error(run: Path, tmp_path: Path) -> None:
    truth = run / "data/synthetic/truth/truth.parquet"
    whole = truth.read_bytes()
    try:
        pq.write_table(pq.read_table(truth).slice(0, 9), truth)
        done = run_eval(run)
        assert done.returncode == 3
        assert "truth.parquet: does not match the manifest" in done.stderr
        list_truth(run / "data/synthetic")
        done = run_eval(run)
        assert done.returncode == 3
        assert "truth.parquet: knows no" in done.stderr
        truth.write_bytes(whole[:100])
        list_truth(run / "data/synthetic")
        done = run_eval(run)
        assert done.returncode == 3
        assert "truth.parquet: holds no truth" in done.stderr
    finally:
        truth.write_bytes(whole)
        list_truth(run / "data/synthetic")


def test_facing_is_zero_towards_the_camera_and_180_away() -> None:
    upright = Rotation.from_euler("x", 180, degrees=True)  # y up in the body, y down in a camera
    for turn in (0, 50, 90, 180):
        root = (upright * Rotation.from_euler("y", turn, degrees=True)).as_matrix()[None]
        assert facing_deg(root)[0] == pytest.approx(turn, abs=1e-5)
