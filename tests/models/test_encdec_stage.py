"""The encoder-decoder's training and report: held-out instants of the training subjects, no test subject."""

from pathlib import Path
from typing import Any

import numpy as np

from crop_fixtures import write_fake_shards
from geobody.config import Encdec, ParamsView, Training
from geobody.data.crops import CropShards
from geobody.stage import Job
from geobody.validation import validate_encoder_decoder
from stages import encdec as page


def play(folder: Path, crops: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What the stage writes, and what validation says and draws of it."""
    folder.mkdir()
    sections = {"encdec": Encdec(steps=2, batch_size=8, warmup_steps=0), "training": Training(threads=1)}
    outputs = {name: folder / file for name, file in {"model": "m.safetensors", "curves": "c.csv"}.items()}
    job = Job("encdec", ParamsView({**sections, "seed": 0}), {"crops": crops}, outputs)
    job.__dict__["scratch"] = folder / "scratch"
    page.main(job)
    figure = folder / "f.png"
    report = validate_encoder_decoder(
        outputs["model"], shards=CropShards.open(crops), held_out_fraction=0.07, figure=figure
    )
    return {path.name: path.read_bytes() for path in (*outputs.values(), figure)}, report


def test_no_output_depends_on_the_test_subjects_pictures(tmp_path: Path) -> None:
    crops = write_fake_shards(tmp_path / "crops", subjects=(1, 5, 9, 101), frames=3)
    before = play(tmp_path / "before", crops)
    _, metrics = before
    assert set(metrics["nvs"]) == {"held_out"}
    assert {"same", "novel", "background"} == set(metrics["nvs"]["held_out"])

    test = np.flatnonzero(np.isin(CropShards.open(crops).table["subject"], [9, 101]))
    for name in ("images", "backgrounds", "masks", "masks_diff"):
        array = np.load(crops / f"{name}.npy", mmap_mode="r+")
        array[test] = 255 - array[test]
        array.flush()
    assert play(tmp_path / "after", crops) == before
