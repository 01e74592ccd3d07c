"""``python -m tools.study``: queues the study's experiments, runs them, and reads them back into one table.

``run PART`` queues what is missing of a part of one of the YAML files here and runs it; stopped and started again it
goes on. ``collect PART`` reads its finished experiments into metrics/tables/. Experiments whose networks other code
trained do not count, nor do rows of a table whose experiments are gone, but with ``--keep``. ``steps`` measures what a
step of each network costs, which is what the steps in arms.yaml were chosen by.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

from geobody.threads import pin_threads  # noqa: E402
from geobody.yaml12 import read_yaml  # noqa: E402
from tools.smoke import stage_environment  # noqa: E402
from tools.study import collect, rows, strip  # noqa: E402

TABLE = ROOT / "metrics" / "tables" / "study.csv"
ABLATION = ROOT / "metrics" / "tables" / "ablation.csv"
STEPS = ROOT / "metrics" / "tables" / "study_steps.csv"
PRETEXTS = ("thesis", "rhodin", "explicit", "sync", "rhodin+sync", "explicit+sync")


def run(part: str, *, keep: bool = False) -> None:
    """Runs the experiments of a part that have no result on this data set yet, a seed after the other.

    A result of other code, or one that only the table still has, is trained again, or counts too if it is to ``keep``.
    """
    wanted = rows.experiments(part)
    stages = sorted({stage for e in wanted for stage in collect.trained_by(e)})
    if not keep and (stale := collect.stale(ROOT, stages)):
        raise SystemExit(
            f"error: dvc.lock has other code of {', '.join(stale)} than the workspace, so that nothing trained now "
            f"would count; run: dvc repro {' '.join(stale)}"
        )
    done = _finished(part, wanted, action="run", keep=keep)
    missing = [e for e in wanted if e.name not in done]
    if keep:
        missing = _beyond_the_table(part, missing)
    print(f"{len(wanted)} experiments, {len(missing)} to run", flush=True)
    if missing and subprocess.run(["git", "config", "user.email"], cwd=ROOT, capture_output=True).returncode:
        raise SystemExit(
            "error: Git: does not know your name, which DVC's experiments are kept under; "
            "set it: git config user.name NAME; git config user.email ADDRESS"
        )
    _dvc("queue", "remove", "--queued", "--failed")  # of a run that was stopped
    for few in _seed_by_seed(part, missing):
        _train(part, few)
        read_back(part, keep=keep)
    if not missing:
        read_back(part, keep=keep)
    done = collect.finished(ROOT, missing, any_code=keep)
    if left := [e.name for e in missing if e.name not in done]:
        raise SystemExit(
            f"error: {len(left)} experiments have no result that counts, e.g. {left[0]}; see: dvc queue logs {left[0]}"
        )


def _seed_by_seed(part: str, missing: Sequence[rows.Experiment]) -> list[list[rows.Experiment]]:
    """A study that is stopped has whole seeds. Bodies train together: an encoder for each seed keeps a core busy."""
    if _of_bodies(part):
        return [[*missing]] if missing else []
    return [[e for e in missing if e.seed == seed] for seed in dict.fromkeys(e.seed for e in missing)]


def _train(part: str, missing: Sequence[rows.Experiment]) -> None:
    """Runs experiments of a part.

    First what several of them share, which they then find in the run cache: the prior and the controls, the two CNNs of
    a stage side by side, and embeddings that more than one body regressor reads: two experiments at the same stage with
    the same params would be in each other's way.
    """
    jobs = rows.jobs_of(part)
    pairs = 1 if any("cnn_all" in e.controls for e in missing) else jobs
    controls = [
        (f"{few[0].name}-controls", rows.of_controls(few[0].params))
        for few in rows.alike(missing, rows.of_controls)
        if len(few) > 1 or "cnn_s1" in few[0].controls
    ]
    embeddings = [
        (f"{few[0].name}-embeddings", rows.of_embeddings(few[0].params))
        for few in rows.alike(missing, rows.of_embeddings)
        if len(few) > 1
    ]
    known = collect.references(ROOT)
    for at_once, chosen, targets in (
        (pairs, controls, ["controls", "gan_prior"]),
        (jobs, embeddings, ["embeddings"]),
        (jobs, [(e.name, e.params) for e in missing], rows.stages_of(part)),
    ):
        for name, params in chosen:
            if name in known:
                _dvc("exp", "remove", name)  # of another data set, or of an earlier run
            _dvc("exp", "run", "--queue", "--name", name, *rows.overrides(params), *targets)
        if chosen:
            _dvc("exp", "run", "--run-all", "--jobs", str(at_once))


def read_back(part: str, *, keep: bool = False) -> None:
    """Adds the rows of a part's finished experiments to its table; rows of other trainings stay.

    So do those of experiments of other code, which are read again if they are to ``keep``.
    """
    experiments = rows.experiments(part)
    # Those that ran when the table had their controls come first: what has all rows has the last word.
    variants = [*(e.without_controls() for e in experiments if e.controls), *experiments]
    references = _finished(part, variants, action="collect", keep=keep)
    done = [(e, references[e.name]) for e in variants if e.name in references]
    bodies = _of_bodies(part)
    if bodies:
        new = [collect.body_row(ROOT, e, reference) for e, reference in done]
    else:
        seconds = _seconds()
        new = [row for e, reference in done for row in collect.rows_of(ROOT, e, reference, seconds)]
    crops = collect.crops_hash((ROOT / "dvc.lock").read_text())
    table, columns, key = (
        (ABLATION, collect.BODY_COLUMNS, collect.BODY_KEY)
        if bodies
        else (TABLE, collect.COLUMNS, collect.KEY)
    )
    collect.write(table, collect.merged(collect.read(table), new, crops=crops, key=key), columns=columns)
    trainings = len({e.without_controls().name for e, _ in done})
    print(f"{table.relative_to(ROOT)}: {trainings} of {len(experiments)} experiments read", flush=True)
    one_embedding = {e.arm: reference for e, reference in done if e.seed == 0}
    if bodies and strip.ROW in one_embedding and not strip.draw(ROOT, one_embedding):
        print(f"{strip.FIGURE}: stays as it was: bodies of these experiments are not in DVC's cache here")


def _beyond_the_table(part: str, experiments: Sequence[rows.Experiment]) -> list[rows.Experiment]:
    """Those of ``experiments`` whose arm, or whose controls, have no row in the table.

    Without controls where the table has these, or an experiment before trains them.
    """
    params = read_yaml(ROOT / "params.yaml")
    crops = collect.crops_hash((ROOT / "dvc.lock").read_text())
    bodies = _of_bodies(part)
    known = collect.read(ABLATION if bodies else TABLE)
    seconds = {} if bodies else _seconds()
    found = []
    for e in experiments:
        own = collect.changed(params, e.params)
        if bodies:
            arm, *controls = [collect.planned_body(own, e, crops=crops)]
        else:
            arm, *controls = collect.planned(own, e, seconds, crops=crops)
        beside = not collect.stand_in(known, controls)
        if beside or not collect.stand_in(known, [arm]):
            found.append(e if beside or not controls else e.without_controls())
            known += [collect.as_written(row) for row in controls]
    return found


def _of_bodies(part: str) -> bool:
    return rows.file_of(part).stem == "ablation"


def steps() -> None:
    """Measures the costs on this machine, which should do nothing else meanwhile."""
    from tools.study.steps import measure, write

    write(STEPS, measure(ROOT, list(PRETEXTS)))
    print(STEPS.read_text(), end="")


def _finished(part: str, wanted: Sequence[rows.Experiment], *, action: str, keep: bool) -> dict[str, str]:
    """Those of ``wanted`` that count, as ``collect.finished`` has them; says which are of other code."""
    every = collect.finished(ROOT, wanted, any_code=True)
    same = collect.finished(ROOT, [e for e in wanted if e.name in every])
    if others := [name for name in every if name not in same]:
        said = "count too" if keep else "do not count"
        hint = "" if keep else f"; to keep them: python -m tools.study {action} {part} --keep"
        print(f"{len(others)} experiments of other code {said}: {', '.join(others)}{hint}", flush=True)
    return every if keep else same


def _seconds() -> dict[str, float]:
    from tools.study.steps import read

    return read(STEPS)


def _dvc(*command: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dvc", *command], cwd=ROOT, env=stage_environment())
    if done.returncode:
        raise SystemExit(f"error: dvc {' '.join(command[:3])}: failed; its lines above say why")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.study", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("action", choices=("run", "collect", "steps"))
    parser.add_argument("part", nargs="?", help="a part of arms.yaml, controls.yaml or ablation.yaml")
    parser.add_argument(
        "--keep", action="store_true", help="count experiments of other code and rows of the table too"
    )
    given = parser.parse_args(arguments)
    if given.action != "steps" and given.part is None:
        parser.error(f"{given.action} needs a part")
    try:
        if given.action == "steps":
            steps()
        else:
            {"run": run, "collect": read_back}[given.action](given.part, keep=given.keep)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    pin_threads()
    main()
