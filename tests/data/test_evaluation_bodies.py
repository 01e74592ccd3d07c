"""Bodies for evaluation alone reach no training: neither by rows that a module asks for nor by a default."""

import ast

import numpy as np
import pytest

from crop_fixtures import write_fake_shards
from geobody.conventions import EVALUATION_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.crops import CropShards
from geobody.data.labels import report_groups, split_labels
from geobody.dependencies import ROOT, stage_modules
from geobody.models.encoder_decoder_training import held_out_instants
from geobody.models.regressor_training import training_views

TRAININGS = ("encdec", "pose_head", "controls", "gan_prior", "smpl_regressor")
TOLD_APART_IN = ("src/geobody/data/crops.py", "src/geobody/data/labels.py")
"""Modules whose work it is to tell splits apart: tested by what they give."""
MODULES = sorted({path.as_posix() for name in TRAININGS for path in stage_modules(name)} - {*TOLD_APART_IN})
SPLITS = {"rows": "train", "views": "train"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> CropShards:
    subjects = (*TRAIN_SUBJECTS, 9, EVALUATION_SUBJECTS[0], EVALUATION_SUBJECTS[-1])
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("crops"), subjects=subjects, frames=4))


def asks_for_more(source: str) -> list[str]:
    """Calls of ``rows`` and ``views`` without split="train", and uses of the column that splits are in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SPLITS:
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if given.get("split") != "'train'" and ast.unparse(node.func.value).endswith(("shards", "crops")):
                found.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and node.value == "evaluation":
            found.append(ast.unparse(node))
        if isinstance(node, ast.UnaryOp) and "is_train" in ast.unparse(node):
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_a_training_asks_for_rows_of_the_training_split_alone(module: str) -> None:
    assert asks_for_more((ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    "source",
    ["shards.rows()", "crops.views(split='test')", "job.shards.views(split='evaluation')",
     "x = ~table['is_train']", "not_train = table['split'] == 'evaluation'"],
)  # fmt: skip
def test_what_is_looked_for_is_found(source: str) -> None:
    assert asks_for_more(source)


def test_labels_reports_and_views_of_trainings_hold_no_such_body(shards: CropShards) -> None:
    subject, instant = shards.table["subject"], shards.table["instant"]
    split = split_labels(shards.table, subjects=[1])
    groups = report_groups(shards.table, split, subjects=[1])
    used = {
        "labels": np.r_[split.train, split.held_out],
        "groups": np.concatenate(list(groups.values())),
        "views": training_views(shards, held_out=split.held_out).ravel(),
        "encdec": np.flatnonzero(np.isin(instant, held_out_instants(shards, fraction=0.25))),
    }
    for name, rows in used.items():
        assert len(rows) and np.isin(subject[rows], TRAIN_SUBJECTS).all(), name
