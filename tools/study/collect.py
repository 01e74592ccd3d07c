"""Reads the study's experiments back from DVC's references: one row for each arm and control."""

import copy
import csv
import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from geobody.config import Params
from tools.data_hash import crops_hash, same_data
from tools.study.rows import HEAD, Experiment, file_of, stages_of

COLUMNS: Final = (
    "part", "arm", "track", "fraction", "turn_deg", "seed", "people", "pretext_steps", "steps", "core_minutes",
    "n_mpjpe_17_mm", "p_mpjpe_17_mm", "mpjpe_17_mm", "pck150", "auc", "spread_mm", "true_spread_mm",
    "rolled_0_mm", "rolled_5_mm", "rolled_15_mm", "rolled_45_mm", "box_mm", "box_off_mm", "crops",
)  # fmt: skip
"""``rolled_*``: N-MPJPE on fewer images, as they are and as a camera rolled by so many degrees sees them; ``box*`` of
crops by a box, in parts that run the stage eval_crops; other errors are then of the same images around the root."""
METRICS: Final = COLUMNS[10:17]
ROLLS: Final = (0, 5, 15, 45)
BODY_COLUMNS: Final = (
    "part", "arm", "seed", "people", "steps", "n_mpjpe_17_mm", "p_mpjpe_17_mm", "mpjpe_17_mm", "pve_mm", "p_pve_mm",
    "t_pve_mm", "t_pve_40_bodies_mm", "root_deg", "root_away_deg", "root_facing_deg", "iou_input", "iou_others",
    "implausible_pct", "spread_mm", "crops",
)  # fmt: skip
KEY: Final = COLUMNS[:7]
BODY_KEY: Final = BODY_COLUMNS[:4]
CODE: Final = ("src/", "stages/")
Row = dict[str, Any]


def references(repository: Path) -> dict[str, str]:
    """Name -> Git reference of every experiment that DVC keeps; of two of a name, the newer."""
    command = ("for-each-ref", "--sort=committerdate", "--format=%(refname)", "refs/exps")
    names = _git(repository, *command).split()
    return {name.rpartition("/")[2]: name for name in names}


def finished(repository: Path, wanted: Iterable[Experiment], *, any_code: bool = False) -> dict[str, str]:
    """Name -> reference of those of ``wanted`` that ran with the workspace's crops, params and code.

    But for what they change themselves. A param that params.yaml did not have yet counts as its default. The code is
    that of the stages ``trained_by``, as dvc.lock records it; with ``any_code`` it may be any. The stages whose metrics
    are read must have run on the networks of the experiment.
    """
    lock = (repository / "dvc.lock").read_text()
    crops = crops_hash(lock)
    recorded = _code(_stages(lock))
    params = _yaml((repository / "params.yaml").read_text())
    known = references(repository)

    def counts(e: Experiment) -> bool:
        reference = known[e.name]
        ran_with = _yaml(_show(repository, reference, "params.yaml"))
        lock = _show(repository, reference, "dvc.lock")
        entries = _stages(lock)
        if (
            not same_data(crops_hash(lock), crops)
            or Params(**ran_with) != Params(**changed(params, e.params))
            or not _ran_on_what_is_beside_them(entries, stages_of(e.part))
        ):
            return False
        if any_code:
            return True
        ran = _code(entries)
        return all(ran.get(stage) == recorded.get(stage) for stage in trained_by(e))

    return {e.name: known[e.name] for e in wanted if e.name in known and counts(e)}


def trained_by(experiment: Experiment) -> tuple[str, ...]:
    """Stages that train what a row of the experiment is measured on; code that judges or draws is not among theirs."""
    if experiment.judged != HEAD:
        return ("controls",)
    if file_of(experiment.part).stem == "ablation":
        return ("pose_head", "gan_prior", "smpl_regressor")
    pretext = () if experiment.params.get("encdec.arm") == "scratch" else ("encdec",)
    return (*pretext, "pose_head", *(("controls",) if experiment.controls else ()))


def stale(repository: Path, stages: Iterable[str]) -> list[str]:
    """Those of ``stages`` whose code in dvc.lock is not that of the workspace's files."""
    recorded = _code(_stages((repository / "dvc.lock").read_text()))
    defined = _yaml((repository / "dvc.yaml").read_text())["stages"]

    def files(stage: str) -> dict[str, str]:
        paths = [path for path in defined[stage]["deps"] if path.startswith(CODE)]
        return {path: hashlib.md5((repository / path).read_bytes()).hexdigest() for path in paths}

    return [stage for stage in stages if recorded.get(stage) != files(stage)]


def changed(params: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` with the dotted names of ``overrides`` set."""
    found = copy.deepcopy(dict(params))
    for key, value in overrides.items():
        *sections, name = key.split(".")
        place = found
        for section in sections:
            place = place[section]
        place[name] = value
    return found


def planned(
    params: Mapping[str, Any], experiment: Experiment, seconds: Mapping[str, float], *, crops: str
) -> list[Row]:
    """What the arm's row, and then those of the controls beside it, say of their trainings; no figures yet.

    ``params`` are the experiment's, ``seconds`` as steps.py has them, ``crops`` the hash of the data.
    """
    encdec, head, tuning = params["encdec"], params["pose_head"], params["tuning"]
    tuned = head["kind"] in ("fine_tuned", "semi_supervised")
    common = {
        "part": experiment.part,
        "track": params["training"]["track"],
        "fraction": params["labels"]["fraction"],
        "turn_deg": params["augmentation"]["turn_deg"],
        "seed": params["seed"],
        "people": _people(params, experiment),
        "crops": crops,
    }

    def control(arm: str, name: str) -> Row:
        steps = 0 if name == "mean_pose" else params["controls"]["steps"]
        if name == "cnn_all":
            steps = params["controls"].get("ceiling_steps") or steps
        minutes = round(steps * params["controls"]["batch_size"] * seconds["control CNN"] / 60, 1)
        return {**common, "arm": arm, "pretext_steps": 0, "steps": steps, "core_minutes": minutes}

    if experiment.judged != HEAD:
        return [control(experiment.arm, experiment.judged)]
    pretext = 0 if encdec["arm"] == "scratch" else encdec["steps"]
    cost = pretext * encdec["batch_size"] * seconds[f"pretext {encdec['arm']}"] if pretext else 0.0
    if tuned:
        cost += tuning["steps"] * tuning["batch_size"] * seconds["pose network"]
    if head["kind"] == "semi_supervised":
        cost += tuning["rounds"] * seconds["fits"] * _unlabelled_instants(params, experiment.held_out)
    own = {
        **common,
        "arm": experiment.arm,
        "pretext_steps": pretext,
        "steps": tuning["steps"] if tuned else head["steps"] if head["kind"] == "mlp" else 0,
        "core_minutes": round(cost / 60, 1),
    }
    return [own, *(control(name, name) for name in experiment.controls)]


def planned_body(params: Mapping[str, Any], experiment: Experiment, *, crops: str) -> Row:
    """What the row of a body regressor says of its training."""
    return {
        "part": experiment.part,
        "arm": experiment.arm,
        "seed": params["seed"],
        "people": _people(params, experiment),
        "steps": params["smpl_regressor"]["steps"],
        "crops": crops,
    }


def rows_of(
    repository: Path, experiment: Experiment, reference: str, seconds: Mapping[str, float]
) -> Iterator[Row]:
    """The arm's row and those of the controls that were trained beside it; ``seconds`` as steps.py has them."""
    params = _yaml(_show(repository, reference, "params.yaml"))
    crops = crops_hash(_show(repository, reference, "dvc.lock"))
    rows = planned(params, experiment, seconds, crops=crops)
    for name, row in zip((experiment.judged, *experiment.controls), rows, strict=True):
        yield {**row, **_errors(repository, reference, experiment, name)}


def body_row(repository: Path, experiment: Experiment, reference: str) -> Row:
    """The row of a body regressor, on the test subjects."""
    params = _yaml(_show(repository, reference, "params.yaml"))
    smpl = json.loads(_show(repository, reference, "metrics/eval.json"))["smpl"]
    nested = {
        "t_pve_40_bodies_mm": smpl.get("evaluation", {}).get("t_pve_mm"),
        "root_deg": smpl["root_deg"]["all"],
        "root_away_deg": smpl["root_deg"]["away"],
        "root_facing_deg": smpl["root_deg"]["facing"],
        "iou_input": smpl["iou"]["input"],
        "iou_others": smpl["iou"]["others"],
    }
    known = planned_body(params, experiment, crops=crops_hash(_show(repository, reference, "dvc.lock")))
    return {
        name: known[name] if name in known else _rounded(nested.get(name, smpl.get(name)))
        for name in BODY_COLUMNS
    }


def stand_in(table: Iterable[Mapping[str, str]], trainings: Iterable[Row]) -> bool:
    """Whether the table has a row of each of the ``planned`` trainings, of as many steps on the same crops."""
    known = [*table]

    def same(row: Mapping[str, str], training: Row) -> bool:
        described = {name: value for name, value in training.items() if name not in ("core_minutes", "crops")}
        return same_data(row["crops"], training["crops"]) and all(
            row.get(name) == str(value) for name, value in described.items()
        )

    return all(any(same(row, training) for row in known) for training in trainings)


def merged(
    old: Iterable[Mapping[str, Any]], new: Iterable[Row], *, crops: str, key: Sequence[str] = KEY
) -> list[Row]:
    """One row for each training: ``new`` ones replace those of ``old`` that say the same in the columns ``key``.

    Rows of another data set than that of ``crops`` are dropped.
    """
    found: dict[tuple[str, ...], Row] = {}
    for row in (row for row in (*old, *new) if same_data(row["crops"], crops)):
        written = as_written(row)
        found[tuple(written.get(column, "") for column in key)] = written
    return list(found.values())


def as_written(row: Mapping[str, Any]) -> dict[str, str]:
    """The row as ``read`` has it from the table."""
    return {column: "" if value is None else str(value) for column, value in row.items()}


def read(path: Path) -> list[dict[str, str]]:
    """The rows of the table, none where there is no table."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Iterable[Row], *, columns: Sequence[str] = COLUMNS) -> None:
    """Writes the table, whole or not at all."""
    partial = path.with_name(f".tmp-{path.name}")
    with partial.open("w", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    os.replace(partial, path)


def _errors(repository: Path, reference: str, experiment: Experiment, name: str) -> Row:
    """Errors of the pose head or of a control, on the held-out people or else on the test subjects."""

    def metrics(file: str) -> dict[str, Any]:
        return json.loads(_show(repository, reference, f"metrics/{file}.json"))

    boxes: Row = {}
    if experiment.held_out:
        (subject,) = experiment.held_out
        group = f"subject_{subject:02d}"
        found = metrics("pose_head")[group] if name == HEAD else metrics("controls")[name][group]
    elif name == HEAD and "eval_crops" in stages_of(experiment.part):
        placed = metrics("eval_crops")
        found = placed["root"]["pose"]
        boxes = {f"{way}_mm": _rounded(placed[way]["pose"]["n_mpjpe_17_mm"]) for way in ("box", "box_off")}
    else:
        evaluation = metrics("eval")
        found = evaluation["pose"] if name == HEAD else evaluation["controls"][name]
        found = {"true_spread_mm": evaluation["test"]["spread_mm"], **found}
    rolled = found.get("rolled", {})  # of the pose head on the test subjects alone
    return (
        {key: _rounded(found.get(key)) for key in METRICS}
        | {
            f"rolled_{angle}_mm": _rounded(rolled[str(angle)]["n_mpjpe_17_mm"])
            for angle in ROLLS
            if str(angle) in rolled
        }
        | boxes
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _stages(lock: str) -> dict[str, Any]:
    """The entries of the text of a dvc.lock, by stage."""
    return _yaml(lock)["stages"]


def _code(entries: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Stage -> path -> MD5 of the code that the entries of a dvc.lock record."""
    return {
        stage: {d["path"]: d["md5"] for d in entry.get("deps", ()) if d["path"].startswith(CODE)}
        for stage, entry in entries.items()
    }


def _ran_on_what_is_beside_them(entries: Mapping[str, Any], stages: Iterable[str]) -> bool:
    """Whether the stages read the outputs that a dvc.lock has: metrics of a stage that did not run are older ones."""
    made = {out["path"]: out["md5"] for entry in entries.values() for out in entry.get("outs", ())}
    read = [d for stage in stages if stage in entries for d in entries[stage].get("deps", ())]
    return all(made.get(d["path"], d["md5"]) == d["md5"] for d in read)


def _people(params: Mapping[str, Any], experiment: Experiment) -> str:
    return "+".join(f"S{s}" for s in experiment.held_out or params["dataset"]["test_subjects"])


def _unlabelled_instants(params: Mapping[str, Any], held_out: Iterable[int]) -> int:
    """Instants that fits are made for; of the labelled people, about as many as neither carry labels nor judge."""
    labels, synth = params["labels"], params["synth"]
    people = {*params["dataset"]["train_subjects"]} - {*held_out}
    own = (1.0 - labels["held_out_fraction"]) * (1.0 - labels["fraction"])
    persons = len(people - {*labels["subjects"]}) + own * len(people & {*labels["subjects"]})
    return round(persons * len(synth["actions"]) * synth["subactions"] * synth["frames"])


def _show(repository: Path, reference: str, file: str) -> str:
    return _git(repository, "show", f"{reference}:{file}")


def _yaml(text: str) -> dict[str, Any]:
    return YAML(typ="safe").load(text)


def _git(repository: Path, *command: str) -> str:
    return subprocess.run(
        ["git", *command], cwd=repository, check=True, capture_output=True, text=True
    ).stdout
