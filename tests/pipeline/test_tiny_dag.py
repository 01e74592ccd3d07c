"""The DAG as its users drive it: every stage does real work, nothing runs twice, metrics are whole."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from geobody.paths import STAGES
from pipeline_types import Run

POSE_KEYS = [f"{name}_{joints}_mm" for name in ("mpjpe", "n_mpjpe", "p_mpjpe") for joints in (16, 17)]
POSE_ROWS = ("pose", "controls.mean_pose", "controls.cnn_s1", "controls.cnn_all")
EVAL_KEYS = [
    *(f"{row}.{key}" for row in POSE_ROWS for key in POSE_KEYS),
    *(f"{who}.{key}_action_mean" for who in ("pose", "controls.cnn_s1") for key in POSE_KEYS),
    *(f"smpl.{name}_17_mm" for name in ("mpjpe", "n_mpjpe", "p_mpjpe")),
    "controls.mean_body.pve_mm", "controls.mean_body.t_pve_mm",
    "smpl.pve_mm", "smpl.p_pve_mm", "smpl.t_pve_mm",
    *(f"{who}.evaluation.{key}_mm" for who in ("smpl", "controls.mean_body") for key in ("pve", "p_pve", "t_pve")),
    "smpl.evaluation.bodies", "smpl.evaluation.poses", "smpl.evaluation.images", "pose.evaluation.n_mpjpe_17_mm",
    "smpl.root_deg.all", "smpl.root_deg.facing", "smpl.root_deg.away",
    "smpl.root_over_90_pct.all", "smpl.iou.input", "smpl.iou.others",
    "smpl.implausible_pct", "prior.auc.shuffled", "prior.auc.generator",
    "nvs.psnr_person", "nvs.psnr_crop", "nvs.ssim_person", "nvs.ssim_crop",
]  # fmt: skip


def metrics(repository: Path, name: str = "eval") -> dict[str, Any]:
    return json.loads((repository / "metrics" / f"{name}.json").read_text())


@pytest.mark.slow
def test_every_stage_writes_all_that_it_declares_and_says_what_it_made(tiny: Path) -> None:
    said = (tiny / "logs" / "repro.txt").read_text().splitlines()
    for name, spec in STAGES.items():
        assert any(line.startswith(f"{name}: ") for line in said)
        assert json.loads((tiny / "logs" / f"{name}.json").read_text())["peak_memory_gb"] > 0
        for path in spec.written().values():
            assert (tiny / path).stat().st_size > 0


@pytest.mark.slow
def test_a_second_repro_runs_nothing(tiny: Path, python_m: Run) -> None:
    done = python_m(tiny, "dvc", "repro")
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("key", EVAL_KEYS)
def test_eval_reports(tiny: Path, key: str) -> None:
    value: Any = metrics(tiny)
    for part in key.split("."):
        value = value[part]
    assert isinstance(value, (int, float))
    assert math.isfinite(value)


@pytest.mark.slow
def test_anyone_can_recompute_the_pose_errors_from_the_predictions(tiny: Path) -> None:
    table = pq.read_table(tiny / "data/eval/predictions.parquet").to_pydict()
    true = np.array(table["joints_true_mm"], dtype=np.float64).reshape(-1, 17, 3)
    for column, reported in (
        ("joints_pred_mm", metrics(tiny)["pose"]),
        ("joints_cnn_s1_mm", metrics(tiny)["controls"]["cnn_s1"]),
        ("joints_cnn_all_mm", metrics(tiny)["controls"]["cnn_all"]),
        ("smpl_joints_pred_mm", metrics(tiny)["smpl"]),
    ):
        predicted = np.array(table[column], dtype=np.float64).reshape(-1, 17, 3)
        raw, scaled, aligned = [], [], []
        for p, t in zip(predicted - predicted[:, :1], true - true[:, :1], strict=True):
            raw.append(np.linalg.norm(p - t, axis=1).mean())
            scaled.append(np.linalg.norm(p * (p * t).sum() / (p * p).sum() - t, axis=1).mean())
            pc, tc = p - p.mean(0), t - t.mean(0)
            u, s, vt = np.linalg.svd(pc.T @ tc)
            sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
            scale = (s * np.diag(sign)).sum() / (pc**2).sum()
            aligned.append(np.linalg.norm(scale * pc @ (u @ sign @ vt) - tc, axis=1).mean())
        assert reported["mpjpe_17_mm"] == pytest.approx(np.mean(raw), rel=1e-4)
        assert reported["n_mpjpe_17_mm"] == pytest.approx(np.mean(scaled), rel=1e-4)
        assert reported["p_mpjpe_17_mm"] == pytest.approx(np.mean(aligned), rel=1e-4)


@pytest.mark.slow
def test_there_is_one_prediction_for_each_test_image(tiny: Path) -> None:
    keys = pq.read_table(tiny / "data/eval/predictions.parquet", columns=["key"])["key"].to_pylist()
    index = pq.read_table(tiny / "data/index/images.parquet", columns=["key", "split"]).to_pylist()
    assert sorted(keys) == sorted(row["key"] for row in index if row["split"] == "test")


@pytest.mark.slow
def test_bodies_for_evaluation_alone_have_a_table_of_their_own(tiny: Path) -> None:
    keys = pq.read_table(tiny / "data/eval/evaluation_bodies.parquet", columns=["key"])["key"].to_pylist()
    index = pq.read_table(tiny / "data/index/images.parquet", columns=["key", "split"]).to_pylist()
    assert keys == [row["key"] for row in index if row["split"] == "evaluation"]
    assert metrics(tiny)["smpl"]["evaluation"]["images"] == len(keys) > 0


@pytest.mark.slow
def test_a_stage_killed_by_bad_data_leaves_everything_else_as_it_was(tiny: Path, python_m: Run) -> None:
    manifest = tiny / "data/synthetic/manifest.parquet"
    hidden = manifest.with_suffix(".hidden")
    before = (tiny / "dvc.lock").read_bytes()
    manifest.rename(hidden)
    try:
        done = python_m(tiny, "stages.index")
    finally:
        hidden.rename(manifest)
    assert done.returncode == 3
    assert (
        done.stderr == "error: data/synthetic/manifest.parquet: is missing; make it with: dvc repro synth\n"
    )
    assert (tiny / "data/index/images.parquet").exists()
    assert (tiny / "dvc.lock").read_bytes() == before
