"""One stage of the pipeline from the command line: ``run`` checks, calls ``main``, moves outputs.

A stage's outputs are written under temporary names in the folders where they belong and renamed
together when ``main`` has returned, so that they appear whole or not at all. Every error that a
user can cure ends in one line: exit code 2 for params, 3 for data and a full disk, 128 + its number
for a signal.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from geobody.cluster import check_cluster
from geobody.config import Params, ParamsView, load_params
from geobody.dependencies import stage_modules
from geobody.dvc_shell import end_with_dvc
from geobody.errors import DataError, GeobodyError
from geobody.full_disk import full_disk
from geobody.interruption import (
    SETTLE_SECONDS,
    Interruption,
    ignore_signals,
    interruptible,
)
from geobody.paths import STAGES, StageSpec
from geobody.processes import Process, launch, leave_code, this_process
from geobody.scratch import FOLDER, Scratch, fingerprint, locked, scratch_root
from geobody.threads import pin_threads
from geobody.versions import check_versions

PARAMS_FILE = Path("params.yaml")
LOGS = Path("logs")


@dataclass(frozen=True)
class Job:
    """One run of one stage.

    ``params`` holds the declared sections; ``inputs`` and ``outputs`` map the names of
    ``geobody.paths.STAGES`` to paths. Outputs are temporary names until ``main`` has returned.
    """

    name: str
    params: ParamsView
    inputs: dict[str, Path]
    outputs: dict[str, Path]
    helper_scratch: Path | None = None

    @property
    def scratch(self) -> Path:
        """Folder for checkpoints: survives a kill, is found again by the same work, goes at success.

        Raises ``DataError`` when another process is at the same work.
        """
        return self.helper_scratch or self._scratch.folder

    @cached_property
    def _scratch(self) -> Scratch:
        key = fingerprint(self.name, self.params.plain(), self.inputs)
        return Scratch(scratch_root(Path.cwd()) / f"{self.name}-{key}")

    def close_scratch(self, *, keep: bool) -> bool:
        """Lets a twin in, and removes what is there unless ``keep``; returns whether a checkpoint is left."""
        return "_scratch" in vars(self) and self._scratch.close(keep=keep)


def resolve(template: str, params: Params) -> Path:
    """A path of the table with ``${section.key}`` replaced from the params."""
    return Path(re.sub(r"\$\{([\w.]+)\}", lambda match: str(_value(match.group(1), params)), template))


def _value(dotted: str, params: Params) -> Any:
    value: Any = params
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def run(name: str, main: Callable[[Job], str], *, spreads: bool = False) -> None:
    """Runs a stage as a program; never returns an error as a traceback when a user can cure it.

    A stage that ``spreads`` runs in as many processes as ``params.yaml: training.processes`` says.
    """
    spec = STAGES[name]
    argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=spec.description,
        epilog=_help_table(spec),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    start = time.monotonic()
    process = this_process()
    if "DVC_STAGE" in os.environ or process.launched:  # set by dvc repro, or by torchrun
        end_with_dvc(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with interruptible() as interruption:
        try:
            said = _run(name, spec, main, process=process, spreads=spreads, interruption=interruption)
        except BaseException as error:
            if ended_by := interruption.signal:
                if process.rank or isinstance(error, SystemExit):  # the first of the processes says it
                    raise SystemExit(128 + ended_by) from None
                _fail(f"{name}: ended by {ended_by.name}; {interruption.next_time}", 128 + ended_by)
            if isinstance(error, GeobodyError):
                _fail(str(error), error.exit_code)
            raise
        seconds = time.monotonic() - start
        _end_workers()
        with contextlib.suppress(OSError):  # the outputs stand: a log is not worth failing for
            if process.rank == 0:
                _log(name, seconds)
        if process.rank == 0:
            print(f"{name}: {said}", flush=True)


def _run(
    name: str,
    spec: StageSpec,
    main: Callable[[Job], str],
    *,
    process: Process,
    spreads: bool,
    interruption: Interruption,
) -> str:
    pin_threads()
    _silence_tracker()
    check_versions(name)
    params = load_params(PARAMS_FILE)
    inputs = {key: resolve(template, params) for key, template in spec.inputs.items()}
    for path in inputs.values():
        if not path.exists():
            raise DataError(path, "is missing", _how_to_make(path, params))
    count = params.training.processes if spreads else 1
    process.check(name, wanted=count)
    if count > 1 and not process.launched:
        with _full_disk_in_one_line([]):
            raise SystemExit(launch(name, count=count))
    final = {key: resolve(template, params) for key, template in spec.written().items()}
    if process.rank:
        return _help(Job(name, params.view(spec.sections), inputs, final), main)
    outputs = {key: path.parent / f".tmp-{name}" / path.name for key, path in final.items()}
    folders = sorted({path.parent for path in outputs.values()})
    job = Job(name, params.view(spec.sections), inputs, outputs)
    with _full_disk_in_one_line(folders), locked(Path(FOLDER) / f"{name}.lock", "runs this stage here"):
        try:
            if Path("src/geobody/parallel.py") in stage_modules(name):
                check_cluster()  # before the folders are there: what a killed run left may write into them
            with _full_disk_in_one_line(folders):  # said before what fills it is removed
                _make_empty(folders)
                said = main(job)
            for key, path in outputs.items():
                if not path.exists():
                    raise RuntimeError(f"stage {name} did not write its output {key!r} ({final[key]})")
            ignore_signals()
            interruption.check()
            for key, path in outputs.items():
                _replace(path, final[key])
        except BaseException:
            ignore_signals()  # what follows cleans up, and takes a moment
            _end_workers(kill=True)
            if job.close_scratch(keep=True):
                interruption.next_time = "dvc repro goes on from its last checkpoint"
            raise
        else:
            job.close_scratch(keep=False)
            return said
        finally:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)


def _help(job: Job, main: Callable[[Job], str]) -> str:
    """Carries out the stage beside the process that publishes: whatever this one writes is thrown away."""
    prefix = f"geobody-{job.name}-"
    with _full_disk_in_one_line([]), tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = Path(name)
        outputs = {key: folder / key / path.name for key, path in job.outputs.items()}
        for path in outputs.values():
            path.parent.mkdir()
        return main(replace(job, outputs=outputs, helper_scratch=folder / "scratch"))


@contextlib.contextmanager
def _full_disk_in_one_line(folders: list[Path]) -> Iterator[None]:
    try:
        yield
    except GeobodyError:
        raise
    except Exception as error:
        place = full_disk(error, [*(folder.parent for folder in folders), scratch_root(Path.cwd())])
        if place is None:
            raise
        cure = "free some and run dvc repro again"
        raise DataError(place, "no space left on the device", cure) from error


def _make_empty(folders: list[Path]) -> None:
    if any(folder.exists() for folder in folders):
        time.sleep(SETTLE_SECONDS)  # a run was killed here, perhaps a moment ago: its workers may still write
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)


def _replace(new: Path, final: Path) -> None:
    """Renames alone: no moment in which a kill could find a folder half removed."""
    if final.is_dir() and not final.is_symlink():
        os.rename(final, new.with_name(f"old-{final.name}"))
    os.replace(new, final)


def _how_to_make(path: Path, params: Params) -> str:
    for name, spec in STAGES.items():
        if spec.per and not _value(spec.per, params):
            continue  # the params leave this stage out
        for template in spec.written().values():
            made = resolve(template, params)
            if path == made or made in path.parents:
                return f"make it with: dvc repro {name}"
    return "put it there, or mend its path in params.yaml"


def _help_table(spec: StageSpec) -> str:
    rows = [("params", "params.yaml: " + ", ".join(spec.sections))]
    rows += [("reads", path) for path in spec.inputs.values()]
    rows += [("writes", path) for path in spec.written().values()]
    return "\n".join(f"  {kind:7} {path}" for kind, path in rows)


def _fail(message: str, code: int) -> None:
    if leave_code(code):
        print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _silence_tracker() -> None:
    """Joblib's tracker, a process that outlives the stage, may warn after its last line of what it found gone."""
    known, silence = os.environ.get("PYTHONWARNINGS", ""), "ignore:resource_tracker:UserWarning"
    if silence not in known:  # a stage's helping processes inherit it
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (known, silence)))


def _end_workers(*, kill: bool = False) -> None:
    """Ends joblib's workers, which would idle on: only ended ones count in the children's peak memory.

    ``kill`` does not wait for what they are at.
    """
    if "joblib.externals.loky" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=kill)


def _log(name: str, seconds: float) -> None:
    """Wall time, peak memory and machine: in a folder that Git ignores, never in an output."""
    usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    LOGS.mkdir(exist_ok=True)
    record = {
        "stage": name,
        "minutes": round(seconds / 60, 3),
        "peak_memory_gb": round(usage[0] / 2**20, 3),
        "peak_memory_of_largest_worker_gb": round(usage[1] / 2**20, 3),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
    }
    (LOGS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
