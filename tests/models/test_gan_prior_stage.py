"""Stage gan_prior as a user runs it: whole outputs that repeat, and one line for a broken set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from geobody.data.prior_poses import write_prior_poses
from geobody.data.surreal import SurrealPoses
from geobody.models.prior import load_prior

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = (
    "data/models/gan_prior.safetensors",
    "metrics/gan_prior.json",
    "metrics/curves/gan_prior.csv",
    "metrics/figures/gan_prior.png",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["gan_prior"] |= {"steps": 12, "batch_size": 32, "pose_units": 16, "warmup_steps": 2}
    params["training"]["threads"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    rng = np.random.default_rng(0)
    for split, count in (("train", 150), ("val", 30)):
        poses = SurrealPoses(
            body_pose=(rng.normal(size=(count, 23, 3)) * 0.3).astype(np.float32),
            root=np.zeros((count, 3), np.float32),
            betas=rng.normal(size=(count, 10)).astype(np.float32),
            sequence_id=np.zeros(count, dtype=np.int32),
            sequences=("01_01",),
            n_dropped=0,
        )
        write_prior_poses(tmp_path / "data/prior_poses", split, poses)
    return tmp_path


def run_stage(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.gan_prior"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_stage_repeats_every_byte(folder: Path) -> None:
    done = run_stage(folder)
    assert done.returncode == 0, done.stderr
    first = [(folder / name).read_bytes() for name in OUTPUTS]
    done = run_stage(folder)
    assert done.returncode == 0, done.stderr
    assert [(folder / name).read_bytes() for name in OUTPUTS] == first
    metrics = json.loads((folder / OUTPUTS[1]).read_text())
    assert (metrics["train_poses"], metrics["val_poses"]) == (150, 30)
    assert "prior from 150 poses" in done.stdout
    assert len(first[3]) <= 300_000
    poses, betas = torch.eye(3).expand(4, 23, 3, 3), torch.zeros(4, 10)
    assert load_prior(folder / OUTPUTS[0]).score(poses, betas).isfinite().all()


def test_a_broken_input_ends_in_one_line_and_leaves_nothing(folder: Path) -> None:
    broken = folder / "data/prior_poses/train.npz"
    broken.write_bytes(broken.read_bytes()[:100])
    done = run_stage(folder)
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "train.npz" in lines[0] and "dvc repro prior_poses" in lines[0]
    assert not any((folder / name).exists() for name in OUTPUTS)
