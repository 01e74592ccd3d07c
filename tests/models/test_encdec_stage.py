"""The encoder-decoder's training and report: held-out instants of the training subjects, no test subject."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from crop_fixtures import write_fake_shards
from geobody.config import Encdec, HeldOut, ParamsView, Training
from geobody.data.crops import CropShards
from geobody.models.arm import LossWeights
from geobody.models.encoder_decoder import ARMS
from geobody.models.encoder_decoder_training import Recipe
from geobody.stage import Job
from geobody.validation import validate_encoder_decoder
from stages import encdec as page


def play(folder: Path, crops: Path, *, arm: str = "rhodin") -> tuple[dict[str, bytes], dict[str, Any]]:
    """What the stage writes, and what validation says and draws of it."""
    folder.mkdir()
    settings = Encdec.model_validate({"arm": arm, "steps": 2, "batch_size": 8, "warmup_steps": 0})
    sections = {"encdec": settings, "held_out": HeldOut(), "training": Training(threads=1)}
    outputs = {name: folder / file for name, file in {"model": "m.safetensors", "curves": "c.csv"}.items()}
    job = Job(
        "encdec",
        ParamsView({**sections, "seed": 0}),
        {"crops": crops},
        outputs,
        helper_scratch=folder / "scratch",
    )
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


@pytest.mark.parametrize(
    ("arm", "columns"), [("sync", "step,total,sync,sync_accuracy"), ("scratch", "step,total")]
)
def test_an_arm_that_does_not_draw_has_no_novel_views(tmp_path: Path, arm: str, columns: str) -> None:
    crops = write_fake_shards(tmp_path / "crops", subjects=(1, 5, 9), frames=3)
    files, metrics = play(tmp_path / arm, crops, arm=arm)
    assert set(metrics["nvs"]["held_out"]) == {"background"}
    assert files["c.csv"].decode().splitlines()[0] == columns
    assert files["f.png"].startswith(b"\x89PNG")


def test_recipe_and_weights_are_those_of_the_params() -> None:
    params = Encdec(
        same_view_fraction=0.1, colour_strength=0.2, spoil_strength=0.3, background_fraction=0.4, mirror=False,
        turn_deg=5.0, appearance_from="subject", mse_weight=6.0, feature_weight=7.0, mask_weight=8.0, sync_weight=9.0,
    ).model_dump()  # fmt: skip
    assert Recipe.from_params(params) == Recipe(
        same_view_fraction=0.1,
        colour_strength=0.2,
        spoil_strength=0.3,
        background_fraction=0.4,
        mirror=False,
        turn_deg=5.0,
        appearance_from="subject",
    )
    assert LossWeights.from_params(params) == LossWeights(mse=6.0, feature=7.0, mask=8.0, sync=9.0)


def test_every_arm_of_the_params_exists() -> None:
    annotation = Encdec.model_fields["arm"].annotation
    assert get_args(annotation) == tuple(ARMS)
