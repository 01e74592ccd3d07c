"""The study: equal budgets, one experiment for each training, and figures read back from where DVC keeps them."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from capsule_body import write_capsule_body
from committed import committed
from crop_fixtures import write_fake_shards
from geobody.body.model import BodyModel
from geobody.config import load_params
from geobody.data.crops import CropShards
from geobody.evaluation import body_errors
from geobody.predictions import Predictions
from tools import data_hash
from tools.study import __main__ as command
from tools.study import collect, figure, report, rows, steps, strip
from tools.study.__main__ import ABLATION, PRETEXTS, STEPS, TABLE
from tools.study.steps import read as read_costs
from tools.write_data_card import ROOT

STAGES = ("encdec", "pose_head", "controls", "smpl_regressor", "eval")
CHANGES = {
    "synth.actions": [2, 3], "synth.subactions": 1, "synth.frames": 10, "dataset.train_subjects": [1, 5, 8],
    "labels.ceiling_subjects": [1, 5, 8], "encdec.arm": "rhodin", "encdec.steps": 200,
    "pose_head.kind": "semi_supervised", "tuning.steps": 600, "tuning.rounds": 1, "controls.steps": 1200,
}  # fmt: skip
COSTS = {
    "pretext rhodin": 0.3 / 64,
    "pose network": 0.1 / 32,
    "control CNN": 0.1 / 32,
    "fits": 0.5,
}  # of an image


def errors(n_mpjpe: float) -> dict[str, float]:
    return {
        "n_mpjpe_17_mm": n_mpjpe,
        "p_mpjpe_17_mm": n_mpjpe - 10,
        "mpjpe_17_mm": n_mpjpe + 5,
        "spread_mm": 180.0,
    }


METRICS = {
    "eval": {
        "pose": errors(94.0) | {"rolled": {"0": errors(94.5), "45": errors(190.0)}},
        "controls": {name: errors(100.0) for name in rows.CONTROLS},
        "test": {"spread_mm": 221.0},
        "smpl": errors(98.0) | {
            "t_pve_mm": 33.0, "evaluation": {"t_pve_mm": 36.0}, "iou": {"input": 0.68, "others": 0.66},
            "root_deg": {"all": 9.0, "away": 8.0, "facing": 8.5}, "pve_mm": 110.0, "implausible_pct": 0.02,
        },
    },
    "pose_head": {"subject_08": errors(80.0) | {"true_spread_mm": 208.0}},
    "controls": {name: {"subject_08": errors(110.0)} for name in rows.CONTROLS},
    "eval_crops": {
        way: {"pose": errors(error) | {"true_spread_mm": 221.0}}
        for way, error in (("root", 75.0), ("box", 76.0), ("box_off", 77.0))
    },
}  # fmt: skip


def git(repository: Path, *command: str) -> str:
    identity = ["-c", "user.name=geobody", "-c", "user.email=geobody@localhost"]
    done = subprocess.run(
        ["git", *identity, *command], cwd=repository, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write_params(repository: Path, **changes: Any) -> None:
    params = collect.changed(rows.read_yaml(ROOT / "params.yaml"), {**CHANGES, **changes})
    (repository / "params.yaml").write_text(json.dumps(params))


def module(stage: str) -> str:
    return f"src/geobody/{stage}.py"


def write_lock(repository: Path, *, crops: str = "aa") -> None:
    """A dvc.lock of the modules as they are, one for each stage."""
    stages: dict[str, Any] = {"crops": {"outs": [{"path": "data/crops", "md5": f"{crops}.dir"}]}}
    for stage in STAGES:
        md5 = hashlib.md5((repository / module(stage)).read_bytes()).hexdigest()
        data = {"path": "data/crops", "md5": f"{crops}.dir"}
        stages[stage] = {"deps": [data, {"path": module(stage), "md5": md5}]}
    (repository / "dvc.lock").write_text(json.dumps({"stages": stages}))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one experiment that DVC would keep, of the part "screen"."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "config", "user.email", "geobody@localhost")
    (tmp_path / "metrics").mkdir()
    (tmp_path / "src/geobody").mkdir(parents=True)
    for stage in STAGES:
        (tmp_path / module(stage)).write_text("before")
    stages = {stage: {"deps": ["data/crops", module(stage)]} for stage in STAGES}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    write_lock(tmp_path)
    write_params(tmp_path)
    for name, values in METRICS.items():
        (tmp_path / f"metrics/{name}.json").write_text(json.dumps(values))
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "An experiment")
    git(tmp_path, "update-ref", f"refs/exps/ab/cdef/{experiment().name}", "HEAD")
    return tmp_path


def use(
    monkeypatch: pytest.MonkeyPatch,
    repository: Path,
    dvc: Callable[..., None],
    experiments: list[rows.Experiment],
) -> None:
    """Makes ``tools.study`` run these experiments in the repository, by a DVC of the test's own."""
    monkeypatch.setattr(command, "ROOT", repository)
    monkeypatch.setattr(command, "TABLE", repository / "study.csv")
    monkeypatch.setattr(command, "_seconds", lambda: COSTS)
    monkeypatch.setattr(command, "_dvc", dvc)
    monkeypatch.setattr(rows, "experiments", lambda part: experiments)


def experiment(*, held_out: tuple[int, ...] = (8,)) -> rows.Experiment:
    return rows.Experiment("screen", "rhodin_semi_supervised", 0, held_out, {"tuning.steps": 600})


def everything() -> list[rows.Experiment]:
    parts = [part for path in rows.FILES for part in rows.read_yaml(path)["parts"]]
    return [e for part in parts for e in rows.experiments(part)]


def test_every_cost_was_measured() -> None:
    pretexts = [f"pretext {arm}" for arm in PRETEXTS]
    assert list(read_costs(STEPS)) == [*pretexts, "control CNN", "pose network", "fits"]


def test_costs_are_measured_with_the_params_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FEW", 1), ("REPEATS", 1), ("FEW_INSTANTS", 30)):
        monkeypatch.setattr(steps, name, value)
    write_params(tmp_path, **{"controls.batch_size": 4, "tuning.batch_size": 4})
    write_fake_shards(tmp_path / "data/crops", crop_size_px=32, frames=2)
    found = {work: seconds for work, _, _, seconds in steps.measure(tmp_path, [])}
    assert list(found) == ["control CNN", "pose network", "fits"]
    assert found["fits"] > 0


def test_what_is_set_up_once_is_no_cost_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def work(units: int) -> None:
        clock[0] += 50.0 + 0.25 * units

    monkeypatch.setattr(steps.time, "process_time", lambda: clock[0])
    assert steps._per_unit(work, 8) == pytest.approx(0.25)


def test_every_arm_trains_for_the_budget_and_no_longer() -> None:
    study = rows.read_yaml(rows.FILES[0])
    costs = read_costs(STEPS)
    params = rows.read_yaml(ROOT / "params.yaml")
    instants = 4 * len(params["synth"]["actions"]) * params["synth"]["frames"]

    def images(arm: dict[str, Any], section: str) -> int:
        size = arm.get(f"{section}.batch_size", params[section]["batch_size"])
        return int(arm.get(f"{section}.steps", 0) * size)

    for name, arm in study["arms"].items():
        pretext = images(arm, "encdec")
        seconds = pretext * costs[f"pretext {arm['encdec.arm']}"] if pretext else 0.0
        seconds += images(arm, "tuning") * costs["pose network"]
        fits = arm.get("tuning.rounds", 1) * (arm["pose_head.kind"] == "semi_supervised")
        seconds += instants * costs["fits"] * fits
        if other := study["equal_samples"].get(name):
            assert arm["encdec.steps"] == study["arms"][other]["encdec.steps"]
            assert seconds / 60 < study["core_minutes"]
        else:
            assert seconds / 60 == pytest.approx(study["core_minutes"], rel=0.06), name
    for settings in (study["common"], study["parts"]["screen"]["set"]):
        seconds = images(settings, "controls") * costs["control CNN"]
        assert seconds / 60 == pytest.approx(study["core_minutes"], rel=0.06)


def test_fits_of_the_labelled_persons_own_unlabelled_instants_cost_too() -> None:
    known = rows.read_yaml(ROOT / "params.yaml")
    (arm, *_) = rows.experiments("screen")
    costs = read_costs(STEPS) | {"fits": 60.0}  # a minute an instant

    def minutes(fraction: float) -> float:
        changes = {**arm.params, "labels.fraction": fraction, "labels.held_out_fraction": 0.1}
        changes |= {"synth.actions": ["walking"], "synth.subactions": 2, "synth.frames": 5}
        return float(
            collect.planned(collect.changed(known, changes), arm, costs, crops="aa")[0]["core_minutes"]
        )

    assert minutes(0.5) - minutes(1.0) == pytest.approx(
        round(3.45 * 10) - 30
    )  # three people; 0.45 of the fourth
    assert minutes(0.1) - minutes(1.0) == pytest.approx(8)


def test_every_experiment_has_params_that_stages_accept(tmp_path: Path) -> None:
    for e in everything():
        params = collect.changed(rows.read_yaml(ROOT / "params.yaml"), e.params)
        (tmp_path / "params.yaml").write_text(json.dumps(params))
        load_params(tmp_path / "params.yaml")


def test_no_two_experiments_have_a_name_in_common() -> None:
    names = [e.name for e in everything()]
    assert len(set(names)) == len(names) > 0


def test_who_chooses_is_seen_by_no_training_and_is_no_test_subject() -> None:
    chosen_by = ("screen", "screen_masked", "screen_tenth", "screen_labels", "screen_labels_short")
    for part in (*chosen_by, "controls_s1", "controls_all"):
        for e in rows.experiments(part):
            assert e.held_out == (8,)
            assert e.params["held_out.subjects"] == [8]
    for part in ("compare", "labels", "turns", "boxes", "masked", "ceiling", "ceiling_masked"):
        for e in rows.experiments(part):
            assert "held_out.subjects" not in e.params


@pytest.mark.parametrize(("part", "others"), rows.CEILINGS.items())
def test_ceilings_of_a_part_are_of_its_people_track_and_seeds(part: str, others: str) -> None:
    own, ceilings = rows.experiments(part), rows.experiments(others)
    for key in ("held_out.subjects", "training.track"):
        assert {str(e.params.get(key)) for e in own} == {str(e.params.get(key)) for e in ceilings}
    assert {e.seed for e in own} == {e.seed for e in ceilings}
    assert {e.judged for e in ceilings} == {"cnn_all"}


def test_controls_of_one_seed_are_trained_once() -> None:
    seeds = [{e.seed for e in few} for few in rows.alike(rows.experiments("compare"), rows.of_controls)]
    assert seeds == [{0}, {1}, {2}]


def test_rows_of_the_ablation_have_one_embedding_of_each_seed() -> None:
    every = [e for part in ("ablation", "ablation_seeds") for e in rows.experiments(part)]
    seeds = [{e.seed for e in few} for few in rows.alike(every, rows.of_embeddings)]
    assert seeds == [{0}, {1}, {2}]
    assert all(len(few) == 1 for few in rows.alike(rows.experiments("compare"), rows.of_embeddings))


def test_controls_that_a_part_does_not_read_are_cut_short() -> None:
    common = rows.read_yaml(rows.FILES[0])["common"]
    full = (common["controls.steps"], common["controls.batch_size"])
    of_screening = dict.fromkeys(("screen", "screen_tenth", "screen_labels"), (8300, 32))
    for e in everything():
        steps, size = (e.params.get(name, common[name]) for name in ("controls.steps", "controls.batch_size"))
        ceiling = e.params.get("controls.ceiling_steps", steps)
        if rows.file_of(e.part).stem == "controls":
            assert ((steps, size) in (full, (8300, 32))) == (e.judged == "cnn_s1")
            assert ((ceiling, size) in (full, (8300, 32))) == (e.judged == "cnn_all")
            continue
        whole = {**of_screening, "screen_labels_short": (2500, 32)}.get(e.part, full)
        assert ("cnn_s1" in e.controls) == ((steps, size) == whole) or e.part == "ablation"
        assert ("cnn_all" in e.controls) == ((ceiling, size) == whole) or e.part == "ablation"


def test_an_unknown_part_and_an_unknown_arm_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match="no part nothing; there are screen, screen_masked, screen_tenth, screen_labels, screen_labels_short, "
        "compare, labels, turns, boxes, masked, controls_s1, controls_all, ceiling, ceiling_masked, ablation",
    ):
        rows.experiments("nothing")
    bad = tmp_path / "rows.yaml"
    bad.write_text("arms: {}\ncommon: {}\nparts: {one: {seeds: [0], arms: [nobody]}}\n")
    with pytest.raises(ValueError, match=r"parts\.one names nobody"):
        rows.experiments("one", file=bad)


def test_rows_that_a_rule_fits_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "arms.yaml").write_text(
        "{arms: {a: {}, b: {}}, common: {}, parts: {one: {seeds: [0, 1], arms: [a, b], vary: {fraction: [1, 2]},"
        " without: [{arm: [a], fraction: [1]}, {seed: [1], fraction: [2]}]}}}\n"
    )
    found = [
        (e.arm, e.seed, e.params["fraction"]) for e in rows.experiments("one", file=tmp_path / "arms.yaml")
    ]
    assert found == [("b", 0, 1), ("a", 0, 2), ("b", 0, 2), ("b", 1, 1)]


def test_overrides_are_what_dvc_reads() -> None:
    assert rows.overrides({"encdec.arm": "rhodin", "held_out.subjects": [8], "seed": 0}) == [
        "-S", 'encdec.arm="rhodin"', "-S", "held_out.subjects=[8]", "-S", "seed=0"
    ]  # fmt: skip


def test_figures_come_from_the_experiment_and_of_whom_it_says(repository: Path) -> None:
    reference = collect.references(repository)[experiment().name]
    head, mean, s1, every = collect.rows_of(repository, experiment(), reference, COSTS)
    assert [row["arm"] for row in (mean, s1, every)] == list(rows.CONTROLS)
    assert (head["people"], head["n_mpjpe_17_mm"], s1["n_mpjpe_17_mm"]) == ("S8", 80.0, 110.0)
    assert head["pretext_steps"] == 200
    assert head["steps"] == 600
    # Subject 5 alone is neither labelled nor held out: 2 sequences of 10 instants.
    assert head["core_minutes"] == pytest.approx((200 * 0.3 + 600 * 0.1 + 20 * 0.5) / 60, abs=0.05)
    assert (mean["core_minutes"], s1["core_minutes"], s1["crops"]) == (0, 2.0, "aa")

    (test, *_) = collect.rows_of(repository, experiment(held_out=()), reference, COSTS)
    assert (test["people"], test["n_mpjpe_17_mm"], test["true_spread_mm"]) == ("S9+S11", 94.0, 221.0)
    assert (test["rolled_0_mm"], test["rolled_45_mm"], test.get("rolled_5_mm")) == (94.5, 190.0, None)
    assert "rolled_0_mm" not in head


def test_a_recipe_of_a_control_is_judged_by_that_control(repository: Path) -> None:
    reference = collect.references(repository)[experiment().name]
    recipe = replace(experiment(), part="controls_s1", arm="half_the_rate", controls=(), judged="cnn_s1")
    (row,) = collect.rows_of(repository, recipe, reference, COSTS)
    assert (row["arm"], row["n_mpjpe_17_mm"], row["steps"], row["core_minutes"]) == (
        "half_the_rate",
        110.0,
        1200,
        2.0,
    )
    assert collect.trained_by(recipe) == ("controls",)


def test_crops_by_a_box_stand_beside_those_around_the_root(repository: Path) -> None:
    reference = collect.references(repository)[experiment().name]
    boxes = replace(experiment(held_out=()), part="boxes", controls=())
    (row,) = collect.rows_of(repository, boxes, reference, COSTS)
    assert (row["n_mpjpe_17_mm"], row["box_mm"], row["box_off_mm"]) == (75.0, 76.0, 77.0)
    said = report.table([collect.as_written(row) | {"part": "boxes"}], "boxes").splitlines()
    assert said[0].endswith("| N-MPJPE by a box | by a box that is off |")
    assert said[2].endswith("| 76.0 | 77.0 |")


def test_a_bodys_row_says_what_its_pose_cannot(repository: Path) -> None:
    reference = collect.references(repository)[experiment().name]
    row = collect.body_row(repository, experiment(held_out=()), reference)
    assert tuple(row) == collect.BODY_COLUMNS
    assert (row["pve_mm"], row["t_pve_40_bodies_mm"], row["root_away_deg"]) == (110.0, 36.0, 8.0)
    assert (row["iou_input"], row["steps"], row["people"], row["p_pve_mm"]) == (0.68, 1800, "S9+S11", None)


def test_an_experiment_on_other_crops_does_not_count(repository: Path) -> None:
    assert list(collect.finished(repository, [experiment()])) == [experiment().name]
    write_lock(repository, crops="bb")
    assert collect.finished(repository, [experiment()]) == {}
    assert collect.finished(repository, [experiment()], any_code=True) == {}


def test_the_frozen_set_of_another_processor_is_the_same_set(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_hash, "FROZEN", {"aa": "one", "bb": "another"})
    monkeypatch.setattr(report, "FROZEN", data_hash.FROZEN)
    write_lock(repository, crops="bb")
    assert list(collect.finished(repository, [experiment()])) == [experiment().name]
    reference = collect.references(repository)[experiment().name]
    rows = [dict(row) for row in collect.rows_of(repository, experiment(), reference, COSTS)]
    found = collect.merged([], rows, crops="bb")
    assert len(found) == 4
    found[1]["crops"] = "bb"
    assert report.table(found, "screen").endswith(
        "on S8; core-minutes by `study_steps.csv`; crops `aa`; "
        "crops `bb`, the same but for a few pixels (docs/reproducibility.md): `mean_pose`."
    )
    assert collect.merged(found, [], crops="cc") == []
    write_lock(repository, crops="cc")
    assert collect.finished(repository, [experiment()]) == {}


def test_an_experiment_with_other_params_does_not_count_but_for_its_own_changes(repository: Path) -> None:
    write_params(repository, **{"tuning.steps": 6000})
    assert list(collect.finished(repository, [experiment()])) == [experiment().name]
    write_params(repository, **{"controls.steps": 2500})
    assert collect.finished(repository, [experiment()]) == {}
    assert collect.finished(repository, [experiment()], any_code=True) == {}


@pytest.mark.parametrize("stage", STAGES)
def test_an_experiment_counts_while_the_code_that_trains_it_is_the_same(repository: Path, stage: str) -> None:
    (repository / module(stage)).write_text("after")
    assert collect.finished(repository, [experiment()])
    assert collect.stale(repository, STAGES) == [stage]
    write_lock(repository)
    assert collect.stale(repository, STAGES) == []
    trains = stage in ("encdec", "pose_head", "controls")
    assert list(collect.finished(repository, [experiment()])) == [experiment().name] * (not trains)
    assert list(collect.finished(repository, [experiment()], any_code=True)) == [experiment().name]


def test_metrics_of_a_stage_that_did_not_run_do_not_count(repository: Path) -> None:
    lock = json.loads((repository / "dvc.lock").read_text())

    def found(network: str) -> dict[str, str]:
        """Where validation read this network, and another one stands beside it or not."""
        lock["stages"]["pose_head"]["outs"] = [{"path": "pose_head.safetensors", "md5": "new"}]
        lock["stages"]["validation"] = {"deps": [{"path": "pose_head.safetensors", "md5": network}]}
        (repository / "dvc.lock").write_text(json.dumps(lock))
        git(repository, "commit", "--quiet", "--all", "--message", "An experiment")
        git(repository, "update-ref", f"refs/exps/ab/cdef/{experiment().name}", "HEAD")
        return collect.finished(repository, [experiment()], any_code=True)

    assert found("old") == {}
    assert set(found("new")) == {experiment().name}


def test_a_module_more_is_other_code(repository: Path) -> None:
    defined = json.loads((repository / "dvc.yaml").read_text())
    defined["stages"]["pose_head"]["deps"].append(module("encdec"))
    (repository / "dvc.yaml").write_text(json.dumps(defined))
    assert collect.stale(repository, STAGES) == ["pose_head"]
    lock = json.loads((repository / "dvc.lock").read_text())
    lock["stages"]["pose_head"]["deps"].append(lock["stages"]["encdec"]["deps"][1])
    (repository / "dvc.lock").write_text(json.dumps(lock))
    assert collect.stale(repository, STAGES) == []
    assert collect.finished(repository, [experiment()]) == {}


def test_rows_rest_on_the_stages_that_train_what_they_measure() -> None:
    found = {e.part: collect.trained_by(e) for e in everything() if e.arm in ("default", "rhodin_mlp")}
    assert found["screen"] == found["compare"] == ("encdec", "pose_head", "controls")
    assert found["ablation"] == found["ablation_seeds"] == ("pose_head", "gan_prior", "smpl_regressor")
    (scratch, *_) = rows.experiments("screen")
    assert collect.trained_by(scratch) == ("pose_head", "controls")
    assert collect.trained_by(rows.experiments("turns")[0]) == ("pose_head",)  # its controls are cut short


def test_experiments_of_other_code_are_named_and_trained_again_unless_they_are_kept(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queued: list[str] = []

    def dvc(*words: str) -> None:
        if "--queue" in words:
            queued.append(words[words.index("--name") + 1])

    use(monkeypatch, repository, dvc, [experiment()])
    command.main(["run", "screen"])
    assert capsys.readouterr().out == "1 experiments, 0 to run\nstudy.csv: 1 of 1 experiments read\n"

    (repository / module("pose_head")).write_text("after")
    with pytest.raises(SystemExit, match=r"dvc\.lock has other code of pose_head .* dvc repro pose_head"):
        command.main(["run", "screen"])
    write_lock(repository)
    name = experiment().name
    with pytest.raises(
        SystemExit, match="1 experiments have no result that counts"
    ):  # as nothing trains here
        command.main(["run", "screen"])
    assert queued == [f"{name}-controls", name]
    said = f"1 experiments of other code do not count: {name}; to keep them: python -m tools.study"
    assert capsys.readouterr().out.startswith(f"{said} run screen --keep\n1 experiments, 1 to run\n")
    assert len(collect.read(repository / "study.csv")) == 4  # rows stay

    (repository / "study.csv").unlink()
    command.main(["collect", "screen"])
    assert f"{said} collect screen --keep" in capsys.readouterr().out
    assert collect.read(repository / "study.csv") == []

    git(repository, "config", "--unset", "user.email")
    monkeypatch.setenv("HOME", str(repository))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    with pytest.raises(SystemExit, match=r"^error: Git: does not know your name, .*; set it: git config"):
        command.main(["run", "screen"])

    queued.clear()
    for action in ("collect", "run"):
        command.main([action, "screen", "--keep"])
        assert f"1 experiments of other code count too: {name}\n" in capsys.readouterr().out
        assert len(collect.read(repository / "study.csv")) == 4
    assert queued == []


def test_a_seed_is_whole_in_the_table_before_the_next_one_trains(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def dvc(*words: str) -> None:
        if "--queue" in words:
            calls.append(words[words.index("--name") + 1])
        elif "--run-all" in words:
            calls.append("run")

    seeds = [replace(experiment(), arm="rhodin", seed=seed, params={"seed": seed}) for seed in (5, 6)]
    use(monkeypatch, repository, dvc, seeds)
    monkeypatch.setattr(command, "read_back", lambda part, keep: calls.append("read"))
    with pytest.raises(SystemExit, match="2 experiments have no result"):  # as nothing trains here
        command.main(["run", "screen"])
    names = [[f"{e.name}-controls", "run", e.name, "run", "read"] for e in seeds]
    assert calls == [*names[0], *names[1]]


def test_a_part_runs_up_to_the_stages_whose_metrics_are_read() -> None:
    assert (
        rows.stages_of("screen") == rows.stages_of("screen_labels") == ["validation"]
    )  # on a training subject
    assert rows.stages_of("compare") == rows.stages_of("ablation") == ["eval"]


def test_what_the_table_has_is_kept_where_its_experiment_is_gone(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queued: list[str] = []

    def dvc(*words: str) -> None:
        """Every experiment ends as the one that the repository has."""
        if "--queue" in words:
            name = words[words.index("--name") + 1]
            queued.append(name)
            changes = next((e.params for e in known if e.name == name), {})
            write_params(repository, **changes)
            git(repository, "commit", "--quiet", "--all", "--allow-empty", "--message", name)
            git(repository, "update-ref", f"refs/exps/ab/cdef/{name}", "HEAD")
            write_params(repository)

    one = experiment()
    other = replace(one, arm="rhodin", params={"tuning.steps": 700})
    known = [one.without_controls(), other.without_controls()]
    use(monkeypatch, repository, dvc, [one, other])
    reference = collect.references(repository)[one.name]
    collect.write(repository / "study.csv", collect.rows_of(repository, one, reference, COSTS))
    git(repository, "update-ref", "-d", reference)

    command.main(["run", "screen", "--keep"])
    assert "2 experiments, 1 to run" in capsys.readouterr().out
    assert queued == [other.without_controls().name]  # and no controls
    table = collect.read(repository / "study.csv")
    assert [row["arm"] for row in table] == [one.arm, *rows.CONTROLS, "rhodin"]
    assert (table[-1]["steps"], table[2]["steps"]) == ("700", "1200")

    queued.clear()
    git(repository, "update-ref", "-d", collect.references(repository)[other.without_controls().name])
    command.main(["run", "screen", "--keep"])
    assert queued == []
    assert collect.read(repository / "study.csv") == table

    (repository / "study.csv").write_text((repository / "study.csv").read_text().replace(",600,", ",500,"))
    command.main(["run", "screen", "--keep"])
    assert queued == [one.without_controls().name]  # a row of fewer steps is none of this training


def test_controls_of_another_recipe_than_the_tables_are_trained_once(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = experiment()
    other = replace(one, arm="rhodin", params={"tuning.steps": 700})
    use(monkeypatch, repository, lambda *words: None, [one, other])
    reference = collect.references(repository)[one.name]
    table = list(collect.rows_of(repository, one, reference, COSTS))
    table.append(table[0] | {"arm": "rhodin", "steps": 700})
    collect.write(repository / "study.csv", table)
    assert command._beyond_the_table("screen", [one, other]) == []
    changed = [row | {"steps": 1300} if row["arm"] == "cnn_s1" else row for row in table]
    collect.write(repository / "study.csv", changed)
    assert command._beyond_the_table("screen", [one, other]) == [one]
    collect.write(repository / "study.csv", [row for row in changed if row["arm"] != "rhodin"])
    assert command._beyond_the_table("screen", [one, other]) == [one, other.without_controls()]


def test_a_training_has_one_row_and_the_last_figures(repository: Path, tmp_path: Path) -> None:
    reference = collect.references(repository)[experiment().name]
    first = list(collect.rows_of(repository, experiment(), reference, COSTS))
    table = tmp_path / "study.csv"
    collect.write(table, collect.merged([], first, crops="aa"))
    again = [row | {"n_mpjpe_17_mm": 70.0} for row in first[:1]]
    collect.write(table, collect.merged(collect.read(table), again, crops="aa"))
    found = collect.read(table)
    assert len(found) == 4
    assert [row["n_mpjpe_17_mm"] for row in found if row["arm"] == "rhodin_semi_supervised"] == ["70.0"]
    assert collect.merged(found, [], crops="bb") == []


def test_the_table_as_text_says_how_much_of_the_gap_is_closed() -> None:
    def row(arm: str, seed: int, n: float, p: float) -> dict[str, str]:
        figures = {
            "n_mpjpe_17_mm": n,
            "p_mpjpe_17_mm": p,
            "mpjpe_17_mm": n,
            "spread_mm": 180,
            "true_spread_mm": 220,
        }
        common = {
            "part": "compare",
            "track": "rgb",
            "fraction": "1.0",
            "turn_deg": "10.0",
            "people": "S9+S11",
        }
        trained = {"arm": arm, "seed": seed, "steps": 600, "core_minutes": 20, "crops": "aa"}
        return {name: str(value) for name, value in {**figures, **common, **trained}.items()}

    found = [
        row("cnn_s1", 0, 100, 80),
        row("cnn_all", 0, 80, 60),
        row("ours", 0, 88, 76),
        row("ours", 1, 92, 74),
    ]
    said = report.table(found, "compare").splitlines()
    assert said[2] == (
        "| `ours` | 2 | 20 | 90.0 (88.0 to 92.0) | 0.88 | 75.0 (74.0 to 76.0) | 90.0 (88.0 to 92.0) | 180 (220) "
        "| 60% / 20% |"  # ratio and gap are of the seed that the controls have too
    )
    assert [line.split("`")[1] for line in said[2:5]] == ["ours", "cnn_all", "cnn_s1"]
    assert said[-1] == "mm, 17 joints, on S9+S11; core-minutes by `study_steps.csv`; crops `aa`."
    more = [row("cnn_s1", 1, 96, 79), row("cnn_all", 1, 76, 59)]
    said = report.table([*found, *more, row("twin", 0, 97, 90)], "compare").splitlines()
    assert next(line for line in said if "`ours`" in line).endswith("| 40%, 20% to 60% / 22%, 20% to 25% |")
    assert next(line for line in said if "`twin`" in line).endswith("| tie (15%) / behind |")
    assert said[-1].endswith(" Ties in N-MPJPE, as their ranges overlap: `cnn_s1` and `twin`.")
    said = report.table([*found, row("cnn_s1", 1, 99, 75)], "compare").splitlines()
    assert next(line for line in said if "`ours`" in line).endswith("| 60% / tie (20%) |")
    assert said[-1].endswith(" Ties in P-MPJPE, as their ranges overlap: `cnn_s1` and `ours`.")
    assert report.table(found, "screen") == "Not run yet."
    still = [row("still", 0, 70, 55) | {"part": "ceiling"}]
    said = report.table([*found, *still], "compare").splitlines()
    assert [line.split("`")[1] for line in said[2:6]] == ["ours", "still", "cnn_all", "cnn_s1"]
    assert said[2].endswith("| 40% / 16% |")  # to the better of two ceilings
    assert said[3].endswith("| 180 (220) |  |")
    longer = row("ours", 2, 80, 70) | {"steps": "900"}
    with pytest.raises(ValueError, match="part compare: seeds of `ours` had unequal steps"):
        report.table([*found, longer], "compare")


@pytest.mark.parametrize(("part", "varied"), [("labels", "fraction"), ("turns", "turn_deg")])
def test_the_default_of_what_a_part_varies_stands_beside_it(part: str, varied: str) -> None:
    common = {
        "arm": "ours", "track": "rgb", "fraction": "1.0", "turn_deg": "10.0", "people": "S9+S11", "seed": "0",
        "steps": "600", "core_minutes": "20", "crops": "aa", **dict.fromkeys((*collect.METRICS,), "100"),
    }  # fmt: skip
    own = common | {"part": part, varied: "0.1"}
    default = common | {"part": "compare"}
    found = [own, default, default | {"seed": "1"}, default | {"arm": "other"}, default | {"part": "screen"}]
    said = report.table(found, part).splitlines()
    assert len([line for line in said if line.startswith("| `")]) == 2
    assert all(line.split(" | ")[1] == "1" for line in said if line.startswith("| `"))
    assert len([line for line in report.table(found, "compare").splitlines() if line.startswith("| `")]) == 2


def test_rolls_get_their_columns_where_trainings_differ_in_them() -> None:
    rolled = {"rolled_0_mm": "90", "rolled_45_mm": "180"}
    common = {
        "part": "turns", "arm": "ours", "track": "rgb", "fraction": "1.0", "people": "S9+S11", "seed": "0",
        "steps": "600", "core_minutes": "20", "crops": "aa", **dict.fromkeys((*collect.METRICS,), "100"),
    }  # fmt: skip
    found = [common | rolled | {"turn_deg": turn} for turn in ("0.0", "45.0")]
    head, rule, first, *_ = report.table(found, "turns").splitlines()
    assert head.endswith("| gap closed, N / P | rolled by 0 | rolled by 45 |")
    assert head.count("|") == rule.count("|") == first.count("|")
    assert first.startswith("| `ours`, turned by 0 degrees |")
    assert first.endswith("| 90.0 | 180.0 |")


def body(arm: str, seed: int, pve: float) -> dict[str, str]:
    """A row of ablation.csv."""
    figures = dict.fromkeys(collect.BODY_COLUMNS, "0.5")
    return figures | {"arm": arm, "seed": str(seed), "pve_mm": str(pve), "crops": "aa"}


def test_bodies_have_a_table_with_the_default_first() -> None:
    lines = report.bodies(
        [body("tanh", 0, 90), body("default", 0, 100), body("default", 1, 110)]
    ).splitlines()
    assert lines[2].startswith("| `default` | 2 | 105.0 (100.0 to 110.0) |  |")
    assert lines[3].startswith("| `tanh` | 1 | 90.0 | -10.0 |")
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == lines[3].count("|")
    assert report.bodies([]) == "Not run yet."


def test_a_body_is_compared_with_the_default_of_its_own_seed() -> None:
    found = [body("default", seed, pve) for seed, pve in ((0, 80), (1, 100), (2, 90))]
    found += [body("thesis", seed, pve) for seed, pve in ((0, 84), (2, 99), (1, 103))] + [body("tanh", 5, 90)]
    lines = report.bodies(found).splitlines()
    assert lines[3].startswith("| `tanh` | 1 | 90.0 |  |")
    assert lines[4].startswith("| `thesis` | 3 | 95.3 (84.0 to 103.0) | +5.3 (+3.0 to +9.0) |")


def test_a_bodys_line_has_ranges_and_all_that_the_csv_has_of_it(tmp_path: Path) -> None:
    one = body("default", 0, 80) | {"t_pve_40_bodies_mm": "36", "iou_input": "0.7", "iou_others": "0.68"}
    one |= {"root_deg": "7", "root_facing_deg": "6", "root_away_deg": "8", "implausible_pct": "0.02"}
    two = one | {"seed": "1", "iou_input": "0.74", "root_away_deg": "9", "implausible_pct": "1.7"}
    collect.write(tmp_path / "ablation.csv", [one, two], columns=collect.BODY_COLUMNS)
    head, _, line, *_ = report.bodies(collect.read(tmp_path / "ablation.csv")).splitlines()
    cells = dict(zip(head.split(" | "), line.split(" | "), strict=True))
    assert cells["T-pose PVE, 40 bodies"] == "36.0 (36.0 to 36.0)"
    assert (
        cells["root, degrees: all / facing / away"]
        == "7.0 (7.0 to 7.0) / 6.0 (6.0 to 6.0) / 8.5 (8.0 to 9.0)"
    )
    assert cells["IoU, input / others"] == "0.72 (0.70 to 0.74) / 0.68 (0.68 to 0.68)"
    assert cells["implausible, % |"] == "0.86 (0.02 to 1.70) |"
    assert report.bodies(
        [body("default", 0, 80) | {"t_pve_40_bodies_mm": ""}]
    )  # of a set without such bodies


def test_rows_of_bodies_are_told_apart_by_their_own_columns(tmp_path: Path) -> None:
    def row(arm: str, steps: int) -> dict[str, Any]:
        return {"part": "ablation", "arm": arm, "seed": 0, "people": "S9", "steps": steps, "crops": "aa"}

    found = collect.merged([row("a", 1), row("b", 1)], [row("a", 2)], crops="aa", key=collect.BODY_KEY)
    assert [(r["arm"], r["steps"]) for r in found] == [("a", "2"), ("b", "1")]


def test_fewer_labels_are_drawn_without_the_ceiling_of_another_part(tmp_path: Path) -> None:
    row = {"part": "labels", "fraction": "0.1", "n_mpjpe_17_mm": "90", "p_mpjpe_17_mm": "80"}
    figure.draw([row | {"arm": arm} for arm in ("rhodin", "cnn_s1")], tmp_path / "labels.png")
    assert (tmp_path / "labels.png").stat().st_size > 3000
    figure.draw([row | {"arm": "rhodin"}], tmp_path / "alone.png")  # before the control is there
    assert (tmp_path / "alone.png").stat().st_size > 3000


def test_the_legend_names_all_lines_inside_of_the_picture_and_above_the_axes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figure, "save_png", lambda _, it: drawn.append(it))
    figure.draw(collect.read(TABLE), tmp_path / "labels.png")
    (picture,) = drawn
    picture.draw_without_rendering()
    (legend,) = picture.legends
    arms = {e.arm for part in ("labels", "ceiling") for e in rows.experiments(part)}
    assert {text.get_text() for text in legend.get_texts()} == {*arms, "cnn_s1", "cnn_all"}
    box = legend.get_window_extent()
    assert picture.bbox.x0 <= box.x0 < box.x1 <= picture.bbox.x1
    assert all(axes.get_window_extent().y1 <= box.y0 < box.y1 <= picture.bbox.y1 for axes in picture.axes)


def test_errors_are_drawn_against_labels_once_there_are_any(tmp_path: Path) -> None:
    def row(part: str, arm: str, fraction: float, error: float) -> dict[str, str]:
        return {
            "part": part, "arm": arm, "fraction": str(fraction),
            "n_mpjpe_17_mm": str(error), "p_mpjpe_17_mm": str(error - 20),
        }  # fmt: skip

    whole = [row("compare", arm, 1.0, 80) for arm in ("ours", "cnn_s1", "cnn_all")]
    figure.draw(whole, tmp_path / "labels.png")
    assert not (tmp_path / "labels.png").exists()
    few = [row("labels", arm, 0.1, 99 + seed) for arm in ("ours", "cnn_s1") for seed in (0, 1)]
    figure.draw([*whole, *few], tmp_path / "labels.png")
    assert (tmp_path / "labels.png").read_bytes().startswith(b"\x89PNG")
    elsewhere = row("screen_labels", "ours", 0.1, 50)
    found = figure.over_labels([*whole, *few, elsewhere], "ours", "p_mpjpe_17_mm")
    assert found == [(10.0, 79.5, 79.0, 80.0), (100.0, 60.0, 60.0, 60.0)]


def bodies_of(rng: np.random.Generator, crops: CropShards, *, off_deg: float) -> Predictions:
    """Bodies of all crops, every other one facing away; the predicted ones' arms are off."""
    n = len(crops)
    true = np.zeros((n, 24, 3))
    true[::2, 0] = Rotation.from_euler("x", 180, degrees=True).as_rotvec()  # upright, towards the camera
    true[1::2, 0] = Rotation.from_euler("z", 180, degrees=True).as_rotvec()  # upright, away from it
    found = true.copy()
    found[:, 16:20, 2] += np.deg2rad(off_deg) * rng.uniform(0.5, 1.0, (n, 1))
    betas = np.zeros((n, 10))
    columns = {"key": crops.table["key"], "theta_true": true, "theta_pred": found, "betas_true": betas}
    columns["betas_pred"] = betas
    return Predictions(
        {k: v if k == "key" else v.reshape(n, -1).astype(np.float32) for k, v in columns.items()}
    )


def test_the_strip_shows_the_median_of_those_who_face_away(tmp_path: Path) -> None:
    crops = CropShards.open(write_fake_shards(tmp_path / "crops", crop_size_px=32, frames=2))
    body = BodyModel.load(write_capsule_body(tmp_path / "body.npz"))
    default = bodies_of(np.random.default_rng(0), crops, off_deg=40)
    row = strip._median_away(default, body)
    assert row % 2 == 1
    errors = body_errors(default, "pred", body=body)["pve_mm"][1::2]
    place = np.flatnonzero(np.sort(errors) == errors[row // 2])
    assert abs(place - len(errors) / 2).min() <= 1
    rows_of = {"default": default.take(np.array([row])), "prior_off": default.take(np.array([row]))}
    strip._strip(tmp_path / "strip.png", rows_of, crops=crops, line=row, body=body)
    assert (tmp_path / "strip.png").stat().st_size > 5000


def test_the_strip_reads_the_bodies_of_each_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(tmp_path, **{"body.model": "body.npz"})
    write_capsule_body(tmp_path / "body.npz")
    crops = CropShards.open(write_fake_shards(tmp_path / "data/crops", crop_size_px=32, frames=2))
    for arm, off in (("default", 10), ("prior_off", 80)):
        bodies = bodies_of(np.random.default_rng(0), crops, off_deg=off)
        columns = {name: pa.array(bodies.columns[name].tolist()) for name in strip.COLUMNS}
        pq.write_table(pa.table(columns), tmp_path / f"{arm}.parquet")

    def opened(path: str, *, repo: str, rev: str, mode: str) -> BinaryIO:
        assert (path, repo, mode) == (strip.PREDICTIONS, str(tmp_path), "rb")
        return (tmp_path / f"{rev}.parquet").open("rb")

    monkeypatch.setattr("dvc.api.open", opened)
    assert strip.draw(tmp_path, {"default": "default", "prior_off": "prior_off"})
    assert (tmp_path / strip.FIGURE).stat().st_size > 5000
    assert not strip.draw(tmp_path, {"default": "default", "thesis": "not in the cache"})


def test_without_a_repository_there_is_no_strip(tmp_path: Path) -> None:
    write_params(tmp_path)
    assert not strip.draw(tmp_path, {"default": "HEAD"})
    assert not (tmp_path / strip.FIGURE).exists()


def test_the_page_is_that_of_the_committed_table() -> None:
    text = report.PAGE.read_text()
    assert report.page(text, collect.read(TABLE), collect.read(ABLATION)) == text, "run: make report"


@pytest.mark.parametrize("table", [TABLE, ABLATION], ids=lambda path: path.stem)
def test_the_committed_tables_are_of_the_committed_data_set(table: Path) -> None:
    lock = ROOT / "dvc.lock"
    known = [collect.crops_hash(text) for text in (lock.read_text(), committed(lock))]
    measured = {row["crops"] for row in collect.read(table)}
    assert any(all(data_hash.same_data(crops, own) for crops in measured) for own in known)
