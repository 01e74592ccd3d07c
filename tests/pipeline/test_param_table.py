"""Which change runs which stages again, as DVC sees it; and that changing it back computes nothing."""

import re
from pathlib import Path

import networkx as nx
import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from geobody.paths import STAGES
from pipeline_types import Copy, Run, computed, restored

pytestmark = pytest.mark.slow

EVERY = set(STAGES)
TRAININGS = {"encdec", "pose_head", "controls", "gan_prior", "smpl_regressor"}
NETWORKS = TRAININGS | {"embeddings", "validation", "eval", "eval_crops"}
FROM_CROPS = {"crops", *NETWORKS} - {"gan_prior"}
REPORTS = {"validation", "eval", "eval_crops"}
FROM_POSE_HEAD = {"pose_head", "embeddings", "smpl_regressor", *REPORTS}

# What changes -> stages that are stale at once, and all that run when these give other outputs.
PARAMS = [
    ("seed", 1, TRAININGS, NETWORKS),
    ("body.poses", 81, {"body"}, EVERY),
    (
        "body.model",
        "data/body/open_3445.npz",
        {"body", "synth", "controls", "smpl_regressor", *REPORTS},
        EVERY,
    ),
    ("synth.noise_std", 2.0, {"synth"}, EVERY - {"body"}),
    ("synth.frames", 7, {"synth"}, EVERY - {"body"}),
    (
        "dataset.stride",
        2,
        {"index", "backgrounds", "crops", "eval_crops"},
        {"index", "backgrounds", *FROM_CROPS},
    ),
    ("backgrounds.frames", 11, {"backgrounds"}, {"backgrounds", *FROM_CROPS}),
    ("crops.size_px", 80, {"crops", "eval_crops"}, FROM_CROPS),
    (
        "encdec.learning_rate",
        1e-5,
        {"encdec", "validation"},
        {"encdec", *FROM_POSE_HEAD},
    ),
    ("training.threads", 3, NETWORKS, NETWORKS),
    ("training.precision", "32-true", NETWORKS, NETWORKS),
    (
        "labels.fraction",
        0.5,
        {"pose_head", "controls", "smpl_regressor", "validation"},
        {"controls", *FROM_POSE_HEAD},
    ),
    ("held_out.subjects", [8], {"validation", *TRAININGS} - {"gan_prior"}, NETWORKS - {"gan_prior"}),
    ("augmentation.mirror", False, {"pose_head", "controls"}, {"controls", *FROM_POSE_HEAD}),
    ("pose_head.kind", "equivariant", {"pose_head"}, FROM_POSE_HEAD),
    ("tuning.rounds", 2, {"pose_head"}, FROM_POSE_HEAD),
    ("controls.weight_decay", 0.1, {"controls"}, {"controls", "validation", "eval"}),
    ("pose_loss.heat_weight", 1.0, {"pose_head", "controls"}, {"controls", *FROM_POSE_HEAD}),
    (
        "prior.stride",
        2,
        {"prior_poses"},
        {"prior_poses", "controls", "gan_prior", "smpl_regressor", *REPORTS},
    ),
    (
        "gan_prior.generator_learning_rate",
        2e-3,
        {"gan_prior"},
        {"gan_prior", "smpl_regressor", *REPORTS},
    ),
    ("smpl_regressor.backend", "pytorch3d", {"smpl_regressor"}, {"smpl_regressor", *REPORTS}),
    ("eval.view_instants", 19, {"eval"}, {"eval"}),
    ("eval_crops.box_off", 0.2, {"eval_crops"}, {"eval_crops"}),
]
VERSIONS = [
    ("python", EVERY),
    ("numpy", EVERY),
    ("torch", {"body", "synth", *NETWORKS}),
    ("deodr", {"synth", "smpl_regressor", "validation", "eval"}),
    ("anny", {"body"}),
    ("roma", {"body"}),
    ("easypytorch3d", {"controls", "gan_prior", "smpl_regressor", *REPORTS}),
    ("safetensors", NETWORKS),
]
COMMENTS = [
    ("src/geobody/config.py", set()),
    ("src/geobody/paths.py", set()),
    ("src/geobody/cluster.py", set()),
    ("src/geobody/metrics.py", {"crops", *REPORTS}),
    ("src/geobody/evaluation.py", {"eval"}),
    ("src/geobody/validation.py", {"validation"}),
    ("src/geobody/data/gait.py", {"synth"}),
    ("src/geobody/predict.py", {"eval_crops"}),
    ("src/geobody/losses.py", {"encdec", "pose_head", "embeddings", *REPORTS}),
    ("src/geobody/models/pose_head_training.py", {"pose_head"}),
    ("src/geobody/training/loop.py", TRAININGS | {"validation", "eval"}),
    ("src/geobody/threads.py", EVERY),
    ("stages/index.py", {"index"}),
]


@pytest.fixture(scope="module")
def repository(copy_of_tiny: Copy) -> Path:
    """A copy that every test here leaves as it found it."""
    return copy_of_tiny("table")


def set_param(file: Path, key: str, value: object) -> None:
    yaml = YAML()
    params = yaml.load(file)
    *sections, name = key.split(".")
    place = params
    for section in sections:
        place = place[section]
    assert place[name] != value
    place[name] = value
    yaml.dump(params, file)


def stale(repository: Path) -> tuple[set[str], set[str]]:
    """Stages that DVC finds changed, and these with all that come after them in its graph."""
    with Repo(str(repository)) as repo:
        changed = {_plain(name) for name in repo.status()}
        graph = repo.index.graph  # edges go from a stage to those that it needs
        after = {
            _plain(stage.name)
            for stage in graph
            if any(_plain(needed.name) in changed for needed in nx.descendants(graph, stage))
        }
    return changed, changed | after


def _plain(name: str) -> str:
    """``index`` of ``dvc.yaml:index``, ``body`` of ``body@embedded``."""
    return name.rsplit(":", 1)[-1].split("@")[0]


def test_nothing_is_stale_to_begin_with(repository: Path) -> None:
    assert stale(repository) == (set(), set())


def test_every_section_has_a_row() -> None:
    sections = {section for spec in STAGES.values() for section in spec.sections}
    assert {key.split(".")[0] for key, *_ in PARAMS} == sections


@pytest.mark.parametrize(("key", "value", "at_once", "in_all"), PARAMS, ids=[row[0] for row in PARAMS])
def test_a_param_makes_stale(
    repository: Path, key: str, value: object, at_once: set[str], in_all: set[str]
) -> None:
    file = repository / "params.yaml"
    before = file.read_bytes()
    try:
        set_param(file, key, value)
        assert stale(repository) == (at_once, in_all)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(("package", "expected"), VERSIONS, ids=[row[0] for row in VERSIONS])
def test_a_version_makes_stale(repository: Path, package: str, expected: set[str]) -> None:
    file = repository / "versions.yaml"
    before = file.read_bytes()
    try:
        set_param(file, package, "0.0.1")
        assert stale(repository)[0] == expected
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(("module", "expected"), COMMENTS, ids=[row[0] for row in COMMENTS])
def test_a_comment_in_a_module_makes_stale_what_imports_it(
    repository: Path, module: str, expected: set[str]
) -> None:
    file = repository / module
    before = file.read_bytes()
    try:
        file.write_bytes(before + b"# A comment.\n")
        assert stale(repository)[0] == expected
    finally:
        file.write_bytes(before)


def test_changes_run_their_stages_alone_and_changing_back_computes_nothing(
    copy_of_tiny: Copy, python_m: Run
) -> None:
    """A comment among the metrics trains nothing; two params run their own; all that is undone is found again."""
    repository = copy_of_tiny("back")
    kept = {
        name: (repository / name).read_bytes()
        for name in ("params.yaml", "src/geobody/metrics.py", "dvc.lock")
    }

    def repro() -> set[str]:
        done = python_m(repository, "dvc", "repro")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return computed(done.stdout)

    (repository / "src/geobody/metrics.py").write_bytes(kept["src/geobody/metrics.py"] + b"# A comment.\n")
    assert repro() == {"crops", *REPORTS}
    set_param(repository / "params.yaml", "tuning.learning_rate", 1e-5)
    assert repro() == FROM_POSE_HEAD
    set_param(repository / "params.yaml", "eval.view_instants", 19)
    assert repro() == {"eval"}

    changed = (repository / "dvc.lock").read_bytes()
    assert re.search(rb"learning_rate: 1e-05\n", changed)
    for name in ("params.yaml", "src/geobody/metrics.py"):
        (repository / name).write_bytes(kept[name])
    done = python_m(repository, "dvc", "repro")
    assert computed(done.stdout) == set(), done.stdout
    assert restored(done.stdout) == {"crops", *FROM_POSE_HEAD}
    assert (repository / "dvc.lock").read_bytes() == kept["dvc.lock"]
    assert "up to date" in python_m(repository, "dvc", "repro").stdout
