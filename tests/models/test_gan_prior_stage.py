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
from scipy.io import savemat

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
    for number in range(6):
        split = "val" if number == 5 else "train"
        path = tmp_path / f"data/synthetic/surreal/cmu/{split}/run0/0{number}_01/0{number}_01_c0001_info.mat"
        path.parent.mkdir(parents=True)
        savemat(path, {"pose": rng.normal(size=(72, 30)) * 0.3, "shape": rng.normal(size=(10, 30))})
    known = tmp_path / "data/synthetic/surreal/cmu/train/run0/18_01/18_01_c0001_info.mat"
    known.parent.mkdir()
    savemat(known, {"pose": np.zeros((72, 1)), "shape": np.zeros((10, 1))})
    return tmp_path


def run_stage(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.gan_prior"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_stage_repeats_every_byte_and_says_what_it_left_out(folder: Path) -> None:
    done = run_stage(folder)
    assert done.returncode == 0, done.stderr
    first = [(folder / name).read_bytes() for name in OUTPUTS]
    done = run_stage(folder)
    assert done.returncode == 0, done.stderr
    assert [(folder / name).read_bytes() for name in OUTPUTS] == first
    metrics = json.loads((folder / OUTPUTS[1]).read_text())
    assert (metrics["train_poses"], metrics["val_poses"], metrics["dropped_sequences"]) == (150, 30, 1)
    assert "150 poses (sequences with broken shapes left out: 1)" in done.stdout
    assert len(first[3]) <= 300_000
    poses, betas = torch.eye(3).expand(4, 23, 3, 3), torch.zeros(4, 10)
    assert load_prior(folder / OUTPUTS[0]).score(poses, betas).isfinite().all()


def test_a_broken_set_ends_in_one_line_and_leaves_nothing(folder: Path) -> None:
    broken = next((folder / "data").rglob("03_01_c0001_info.mat"))
    broken.write_bytes(broken.read_bytes()[:100])
    done = run_stage(folder)
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "03_01_c0001_info.mat" in lines[0] and "prior.root" in lines[0]
    assert not any((folder / name).exists() for name in OUTPUTS)
