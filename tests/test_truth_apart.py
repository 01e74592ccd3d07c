"""The truth of the synthetic set is written by synth, read by eval, and known to nobody between."""

import re
from pathlib import Path

import numpy as np
import pytest

from geobody.config import load_params
from geobody.data import h36m
from geobody.data.manifest import read_manifest
from geobody.dependencies import ROOT, stage_modules
from geobody.paths import STAGES
from geobody.stage import resolve
from h36m_tree import camera_of, poses, write_tree
from stage_runner import run_stage

TRUTH = "data/synthetic/truth"
TRAINED = sorted(set(STAGES) - {"synth", "eval"})
KNOWS_THE_ROOT = {"index", "backgrounds", "crops"}
READS_TRUTH = re.compile(
    r"truth\.parquet|truth/truth|synthetic/truth|\b(read|write|find)_truth\b|\.truth\b|\[[\"']truth[\"']\]"
    r"|TRUTH_SCHEMA|\bTRUTH\b"
)


def test_the_truth_is_an_output_of_synth_and_reaches_a_stage_through_the_manifest_alone() -> None:
    params = load_params(ROOT / "params.yaml")
    writers = {name for name, spec in STAGES.items() if TRUTH in spec.written().values()}
    assert writers == {"synth"}
    for name, spec in STAGES.items():  # neither itself nor a folder around it is an input
        inputs = [resolve(path, params) for path in spec.inputs.values()]
        assert not [path for path in inputs if path == Path(TRUTH) or path in Path(TRUTH).parents], name


def test_no_training_knows_where_the_data_set_is() -> None:
    manifest = STAGES["index"].inputs["manifest"]
    knowing = {n for n, s in STAGES.items() if manifest in s.inputs.values() or "dataset" in s.sections}
    assert knowing == KNOWS_THE_ROOT | {"eval", "eval_crops"}


def test_what_the_trainings_read_is_the_same_bytes_whatever_the_truth_says(tmp_path: Path) -> None:
    found = []
    for truth in (b"one truth", b"another", None):
        folder = tmp_path / str(truth)
        tree = write_tree(folder, subjects=(1, 9), frames=3, cameras=(1, 2))
        file = tree.root / "truth/truth.parquet"
        file.parent.mkdir()
        file.write_bytes(truth or b"gone")
        tree.write_manifest()
        listed = [path for batch in read_manifest(tree.manifest) for path in batch.to_pylist()]
        assert "truth/truth.parquet" in listed
        if truth is None:
            file.unlink()
        work = folder / "work"
        for stage in ("index", "backgrounds", "crops"):
            done = run_stage(tree, work, stage, cameras=[1, 2])
            assert done.returncode == 0, done.stderr
        found.append({p.relative_to(work): p.read_bytes() for p in work.glob("data/**/*") if p.is_file()})
    assert len(found[0]) > 8
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", TRAINED)
def test_no_module_of_another_stage_names_the_truth(name: str) -> None:
    modules = stage_modules(name)
    assert len(modules) > 1
    named = {path.as_posix(): READS_TRUTH.findall((ROOT / path).read_text()) for path in modules}
    assert not {path: found for path, found in named.items() if found}


@pytest.mark.parametrize("name", ["synth", "eval"])
def test_what_is_looked_for_is_found_where_it_is(name: str) -> None:
    assert any(READS_TRUTH.search((ROOT / path).read_text()) for path in stage_modules(name))


def test_of_a_sequences_mat_the_camera_and_the_joints_are_read_and_no_body(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: set[str] = set()

    class Spied(dict):
        def __getitem__(self, name: str) -> np.ndarray:
            touched.add(name)
            return super().__getitem__(name)

        def get(self, name: str, default=None):
            touched.add(name)
            return super().get(name, default)

        def items(self):
            touched.update(self)
            return super().items()

        values = items

    lens = {"k": np.zeros(3), "p": np.zeros(2)}
    bodies = {
        "theta": np.zeros((3, 72)),
        "betas": np.zeros(10),
        "pose": np.zeros((3, 72)),
        "shape": np.zeros(10),
    }
    fields = Spied(pose3d_world=poses(1, 2, 3), **camera_of(1), **lens, **bodies)
    monkeypatch.setattr(h36m, "_load_mat", lambda path: fields)
    h36m.read_meta(tmp_path / "h36m_meta.mat")
    assert touched == {"pose3d_world", "R", "T", "f", "c", "k", "p", "img_width", "img_height"}
