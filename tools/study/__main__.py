"""``python -m tools.study``: queues the study's experiments, runs them, and reads them back into one table.

``run PART`` queues what is missing of a part of arms.yaml or ablation.yaml and runs it; stopped and started again it
goes on. ``collect PART`` reads its finished experiments into metrics/tables/. ``steps`` measures what a step of each
network costs, which is what the steps in arms.yaml were chosen by.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

from geobody.threads import pin_threads  # noqa: E402
from tools.smoke import stage_environment  # noqa: E402
from tools.study import collect, rows, strip  # noqa: E402

TABLE = ROOT / "metrics" / "tables" / "study.csv"
ABLATION = ROOT / "metrics" / "tables" / "ablation.csv"
STEPS = ROOT / "metrics" / "tables" / "study_steps.csv"
PRETEXTS = ("thesis", "rhodin", "explicit", "sync", "rhodin+sync", "explicit+sync")


def run(part: str) -> None:
    """Runs the experiments of a part that have no result on this data set yet.

    First the controls, the two CNNs of a stage side by side, then the arms, which find them in the run cache.
    """
    wanted = rows.experiments(part)
    missing = _unfinished(wanted)
    print(f"{len(wanted)} experiments, {len(missing)} to run", flush=True)
    _dvc("queue", "remove", "--queued", "--failed")  # of a run that was stopped
    controlled = [e for e in missing if "cnn_s1" in e.controls]
    alike = {tuple(sorted((k, str(v)) for k, v in rows.of_controls(e.params).items())): e for e in controlled}
    known = collect.references(ROOT)
    jobs = rows.jobs_of(part)
    pairs = 1 if any("cnn_all" in e.controls for e in controlled) else jobs
    for at_once, chosen, targets in ((pairs, list(alike.values()), ["controls"]), (jobs, missing, [])):
        for e in chosen:
            params = rows.of_controls(e.params) if targets else e.params
            name = f"{e.name}-controls" if targets else e.name
            if name in known:
                _dvc("exp", "remove", name)  # of another data set, or the controls of an earlier run
            _dvc("exp", "run", "--queue", "--name", name, *rows.overrides(params), *targets)
        if chosen:
            _dvc("exp", "run", "--run-all", "--jobs", str(at_once))
    read_back(part)
    if left := [e.name for e in _unfinished(wanted)]:
        raise SystemExit(
            f"error: {len(left)} experiments failed, e.g. {left[0]}; see: dvc queue logs {left[0]}"
        )


def read_back(part: str) -> None:
    """Adds the rows of a part's finished experiments to its table; rows of other trainings stay."""
    experiments = rows.experiments(part)
    references = collect.finished(ROOT, experiments)
    done = [(e, references[e.name]) for e in experiments if e.name in references]
    bodies = rows.file_of(part).stem == "ablation"
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
    print(f"{table.relative_to(ROOT)}: {len(done)} of {len(experiments)} experiments read", flush=True)
    one_embedding = {e.arm: reference for e, reference in done if e.seed == 0}
    if bodies and strip.ROW in one_embedding and not strip.draw(ROOT, one_embedding):
        print(f"{strip.FIGURE}: stays as it was: bodies of these experiments are not in DVC's cache here")


def steps() -> None:
    """Measures the costs on this machine, which should do nothing else meanwhile."""
    from tools.study.steps import measure, write

    write(STEPS, measure(ROOT, list(PRETEXTS)))
    print(STEPS.read_text(), end="")


def _unfinished(wanted: Sequence[rows.Experiment]) -> list[rows.Experiment]:
    done = collect.finished(ROOT, wanted)
    return [e for e in wanted if e.name not in done]


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
    parser.add_argument("part", nargs="?", help="a part of arms.yaml or ablation.yaml")
    given = parser.parse_args(arguments)
    if given.action != "steps" and given.part is None:
        parser.error(f"{given.action} needs a part")
    try:
        if given.action == "steps":
            steps()
        else:
            {"run": run, "collect": read_back}[given.action](given.part)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    pin_threads()
    main()
