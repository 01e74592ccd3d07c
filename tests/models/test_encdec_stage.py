"""Stage encdec's report: held-out instants of the training subjects, and no test subject."""

import json
from pathlib import Path

import numpy as np

from crop_fixtures import write_fake_shards
from geobody.config import Encdec, ParamsView, Training
from geobody.data.crops import CropShards
from geobody.stage import Job
from stages import encdec as page


def play(folder: Path, crops: Path) -> dict[str, bytes]:
    folder.mkdir()
    sections = {"encdec": Encdec(steps=2, batch_size=8, warmup_steps=0), "training": Training(threads=1)}
    names = {"model": "m.safetensors", "metrics": "m.json", "curves": "c.csv", "figure": "f.png"}
    outputs = {name: folder / file for name, file in names.items()}
    job = Job("encdec", ParamsView({**sections, "seed": 0}), {"crops": crops}, outputs)
    job.__dict__["scratch"] = folder / "scratch"
    page.main(job)
    return {name: path.read_bytes() for name, path in outputs.items()}


def test_no_output_depends_on_the_test_subjects_pictures(tmp_path: Path) -> None:
    crops = write_fake_shards(tmp_path / "crops", subjects=(1, 5, 9, 101), frames=3)
    before = play(tmp_path / "before", crops)
    metrics = json.loads(before["metrics"])
    assert set(metrics["nvs"]) == {"held_out"}
    assert {"same", "novel", "background"} == set(metrics["nvs"]["held_out"])

    test = np.flatnonzero(np.isin(CropShards.open(crops).table["subject"], [9, 101]))
    for name in ("images", "backgrounds", "masks", "masks_diff"):
        array = np.load(crops / f"{name}.npy", mmap_mode="r+")
        array[test] = 255 - array[test]
        array.flush()
    assert play(tmp_path / "after", crops) == before
