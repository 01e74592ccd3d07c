"""`geobody predict` on a crop of the pipeline says what stage `eval` stored for that crop."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geobody.data.crops import CropShards
from pipeline_types import Run

SAME_MM = 0.1
"""Joints are written to 0.01 mm, and another batch rounds otherwise."""


@pytest.mark.slow
def test_a_crop_saved_as_a_picture_is_predicted_as_eval_did(
    tiny: Path, tmp_path: Path, python_m: Run
) -> None:
    import pyarrow.parquet as pq

    shards = CropShards.open(tiny / "data/crops")
    table = pq.read_table(tiny / "data/eval/predictions.parquet").to_pydict()
    keys = [table["key"][i] for i in (0, len(table["key"]) // 2, -1)]
    pictures = [tmp_path / f"{key}.png" for key in keys]
    for key, picture in zip(keys, pictures, strict=True):
        Image.fromarray(np.asarray(shards.images[np.flatnonzero(shards.table["key"] == key)[0]])).save(
            picture
        )
    done = python_m(tiny, "geobody", "predict", *map(str, pictures), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    for key in keys:
        said = json.loads((tmp_path / "out" / key / "joints.json").read_text())
        row = table["key"].index(key)
        for name, column in (("joints_mm", "joints_pred_mm"), ("body_joints_mm", "smpl_joints_pred_mm")):
            stored = np.reshape(table[column][row], (17, 3))
            np.testing.assert_allclose(said[name], stored, atol=SAME_MM, err_msg=name)
        with np.load(tmp_path / "out" / key / "smpl.npz", allow_pickle=False) as smpl:
            np.testing.assert_allclose(smpl["betas"], table["betas_pred"][row], atol=1e-4)
