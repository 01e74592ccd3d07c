"""Stage prior_poses as a user runs it: the whole set in two files that repeat, one line for a broken set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from geobody.data.prior_poses import read_prior_poses
from geobody.data.surreal import read_surreal

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = ("data/prior_poses/train.npz", "data/prior_poses/val.npz", "metrics/prior_poses.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
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
        [sys.executable, "-m", "stages.prior_poses"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_files_hold_what_the_set_holds_and_repeat(folder: Path) -> None:
    done = run_stage(folder)
    assert done.returncode == 0, done.stderr
    assert (
        "150 poses to train on, 30 to compare with (sequences with broken shapes left out: 1)" in done.stdout
    )
    first = [(folder / name).read_bytes() for name in OUTPUTS]
    assert run_stage(folder).returncode == 0
    assert [(folder / name).read_bytes() for name in OUTPUTS] == first
    for split in ("train", "val"):
        told = read_surreal(folder / "data/synthetic/surreal", split=split)
        read = read_prior_poses(folder / "data/prior_poses", split=split)
        np.testing.assert_array_equal(read.body_pose, told.body_pose)
        np.testing.assert_array_equal(read.root, told.root)
        np.testing.assert_array_equal(read.betas, told.betas)
        np.testing.assert_array_equal(read.sequence_id, told.sequence_id)
        assert (read.sequences, read.n_dropped) == (told.sequences, told.n_dropped)
    counts = json.loads((folder / OUTPUTS[2]).read_text())
    assert counts["train"] == {"poses": 150, "sequences": 5, "dropped_sequences": 1}


def test_a_broken_set_ends_in_one_line_and_leaves_nothing(folder: Path) -> None:
    broken = next((folder / "data").rglob("03_01_c0001_info.mat"))
    broken.write_bytes(broken.read_bytes()[:100])
    done = run_stage(folder)
    assert done.returncode == 3
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "03_01_c0001_info.mat" in lines[0] and "prior.root" in lines[0]
    assert not any((folder / name).exists() for name in OUTPUTS)
