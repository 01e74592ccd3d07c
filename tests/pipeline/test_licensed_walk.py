"""The README's walk to the licensed sets, on a small tree in their layouts that `synth` had no part in.

People are sticks, drawn through OpenCV's own projection; poses and shapes for the prior are random; the body
is made of capsules. What is tested is the way, not the figures.
"""

import difflib
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.io import savemat

from capsule_body import write_capsule_body
from geobody.paths import STAGES
from h36m_tree import write_tree
from pipeline_types import Run
from tools.smoke import copy_repository, use_profile

ROOT = Path(__file__).resolve().parents[2]
STEPS = {"encdec": 8, "tuning": 9, "controls": 12, "gan_prior": 20, "smpl_regressor": 10}
LENS = {"k": np.array([[-0.2, 0.05, 0.0]]), "p": np.array([[0.001, -0.001]])}


def readme_lines(places: dict[str, Path]) -> dict[tuple[str, ...], str]:
    """The README's lines to change, by key: its own values, but for the paths, which are ``places``."""
    section = (ROOT / "README.md").read_text().split("## Human3.6M, SURREAL and SMPL")[1].split("\n## ")[0]
    block = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert block
    lines = {}
    for name, value in yaml.safe_load(block.group(1)).items():
        for path, leaf in (
            {(name, k): v for k, v in value.items()} if isinstance(value, dict) else {(name,): value}
        ).items():
            dotted = ".".join(path)
            lines[path] = str(places[dotted]) if str(leaf).startswith("/path/to/") else json.dumps(leaf)
    return lines


def change_lines(text: str, changes: dict[tuple[str, ...], str]) -> str:
    """params.yaml as an editor leaves it who changes those lines and nothing else."""
    for path, value in changes.items():
        head = "".join(rf"^{name}:\n(?:  .*\n|\n)*?" for name in path[:-1])
        indent = "  " * (len(path) - 1)
        text, count = re.subn(rf"(?m)({head}^{indent}{path[-1]}:).*$", rf"\1 {value}", text, count=1)
        assert count == 1, path
    return text


def shorter() -> dict[tuple[str, ...], str]:
    """Fewer steps than even the tiny profile, and one thread: the figures do not matter here."""
    steps = {(section, "steps"): str(n) for section, n in STEPS.items()}
    return steps | {(section, "warmup_steps"): "2" for section in STEPS} | {("training", "threads"): "1"}


def write_prior(root: Path) -> None:
    """Info files as SURREAL's: clips of many frames and of one, two clips of a sequence, a broken shape."""
    rng = np.random.default_rng(0)
    clips = [("train", f"{i:02d}_01", 1, 20) for i in range(1, 15)] + [
        ("train", "01_01", 2, 7),
        ("train", "20_05", 1, 1),
    ]
    clips += [("train", "18_03", 1, 5), *(("val", f"{i}_02", 1, 12) for i in range(90, 96))]
    for split, sequence, clip, frames in clips:
        folder = root / "cmu" / split / "run1" / sequence
        folder.mkdir(parents=True, exist_ok=True)
        shape = np.repeat(rng.normal(size=(10, 1)), frames, 1) * (40 if sequence == "18_03" else 1)
        fields = {
            "pose": rng.normal(size=(72, frames)) * 0.3, "shape": shape, "gender": np.ones((frames, 1), np.uint8),
            "zrot": rng.uniform(-3, 3, (frames, 1)), "joints3D": rng.normal(size=(3, 24, frames)), "sequence": sequence,
        }  # fmt: skip
        savemat(folder / f"{sequence}_c{clip:04d}_info.mat", fields)


def leaves(values: Any) -> list[float]:
    if isinstance(values, dict):
        return [leaf for value in values.values() for leaf in leaves(value)]
    return [values]


@pytest.mark.slow
def test_the_walk_of_the_readme(tmp_path: Path, python_m: Run) -> None:
    places = {
        "dataset.root": tmp_path / "h36m",
        "prior.root": tmp_path / "surreal",
        "body.model": tmp_path / "smpl.npz",
    }
    write_tree(tmp_path, actions=(2, 14), frames=5, layout="matlab")
    write_tree(tmp_path, subjects=(8,), actions=(2, 14), frames=5, layout="matlab", extra=LENS)
    (tmp_path / "h36m/manifest.parquet").unlink()
    write_prior(places["prior.root"])
    write_capsule_body(places["body.model"])
    repository = copy_repository(tmp_path / "repository")
    use_profile(repository, "tiny")
    source = {"PYTHONPATH": str(repository / "src")}

    params = repository / "params.yaml"
    before = change_lines(params.read_text(), shorter())
    params.write_text(change_lines(before, readme_lines(places)))
    shutil.rmtree(repository / "metrics")  # what stands there later was made here
    changed = [x for x in difflib.ndiff(before.splitlines(), params.read_text().splitlines()) if x[0] in "+-"]
    assert [line[0] for line in changed] == ["-", "+"] * 4

    checked = python_m(repository, "geobody", "check", **source)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = python_m(repository, "geobody", "manifest", str(places["dataset.root"]), **source)
    assert listed.returncode == 0, listed.stderr
    done = python_m(repository, "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ran = set(re.findall(r"Running stage '([\w@]+)'", done.stdout))
    assert ran == set(STAGES) - {"body", "synth"}

    metrics = json.loads((repository / "metrics/eval.json").read_text())
    assert all(math.isfinite(value) for value in leaves(metrics) if not isinstance(value, str))
    assert metrics["pose"]["n_mpjpe_17_mm"] > 0
    assert metrics["smpl"]["n_mpjpe_17_mm"] > 0
    assert not re.findall(r'"\w*pve\w*"', json.dumps(metrics))
    index = json.loads((repository / "metrics/index.json").read_text())
    assert (index["images"], index["images_with_distortion"]) == (7 * 2 * 4 * 5, 2 * 4 * 5)
    predictions = pq.read_table(repository / "data/eval/predictions.parquet")
    assert len(predictions) == 2 * 2 * 4 * 5
    assert predictions.column("theta_true").null_count == len(predictions)

    for part in ("images", "masks", "annotations"):  # gone: what looked at them now would fail
        (tmp_path / "h36m" / part).rename(tmp_path / part)
    again = python_m(repository, "dvc", "repro")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout
