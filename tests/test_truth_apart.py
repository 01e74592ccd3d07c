"""The truth of the synthetic set is written by synth, read by eval, and known to nobody between."""

import re

import numpy as np
import pytest

from geobody.data import h36m
from geobody.dependencies import ROOT, stage_modules
from geobody.paths import STAGES
from h36m_tree import camera_of, poses

TRUTH_PATHS = {"${dataset.truth}", "data/synthetic/truth"}
TRAINED = sorted(set(STAGES) - {"synth", "eval"})
READS_TRUTH = re.compile(
    r"truth\.parquet|synthetic/truth|\b(read|write)_truth\b|\.truth\b|\[[\"']truth[\"']\]|TRUTH_SCHEMA"
)


def test_the_truth_is_an_output_of_synth_and_an_input_of_eval_alone() -> None:
    readers = {name for name, spec in STAGES.items() if TRUTH_PATHS & set(spec.inputs.values())}
    writers = {name for name, spec in STAGES.items() if TRUTH_PATHS & set(spec.written().values())}
    assert (readers, writers) == ({"eval"}, {"synth"})
    for name, spec in STAGES.items():  # nor through a folder around it
        around = [path for path in spec.inputs.values() if "data/synthetic/truth".startswith(f"{path}/")]
        assert not around, name


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
