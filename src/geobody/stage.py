"""One stage of the pipeline from the command line: ``run`` checks, calls ``main``, moves outputs.

A stage's outputs are written under temporary names in the folders where they belong and renamed
together when ``main`` has returned, so that they appear whole or not at all. Every error that a
user can cure ends in one line: exit code 2 for params, 3 for data.
"""

import argparse
import errno
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from geobody.config import Params, ParamsView, load_params
from geobody.dependencies import ROOT, stage_modules
from geobody.errors import DataError, GeobodyError
from geobody.paths import STAGES, StageSpec
from geobody.threads import pin_threads
from geobody.versions import check_versions

PARAMS_FILE = Path("params.yaml")
SCRATCH = Path(".scratch")
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

    @cached_property
    def scratch(self) -> Path:
        """Folder for checkpoints: survives a kill, is found again by the same work, goes at success."""
        folder = SCRATCH / f"{self.name}-{fingerprint(self.name, self.params, self.inputs)}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def fingerprint(name: str, params: ParamsView, inputs: dict[str, Path]) -> str:
    """Sixteen hex digits over the stage's code, its params, its inputs' bytes and torch's version."""
    digest = hashlib.sha256(json.dumps([params.plain(), metadata.version("torch")], sort_keys=True).encode())
    for path in sorted(stage_modules(name)):
        digest.update((ROOT / path).read_bytes())
    for path in inputs.values():
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def resolve(template: str, params: Params) -> Path:
    """A path of the table with ``${section.key}`` replaced from the params."""
    return Path(re.sub(r"\$\{([\w.]+)\}", lambda match: str(_value(match.group(1), params)), template))


def _value(dotted: str, params: Params) -> Any:
    section, key = dotted.split(".")
    return getattr(getattr(params, section), key)


def run(name: str, main: Callable[[Job], str]) -> None:
    """Runs a stage as a program; never returns an error as a traceback when a user can cure it."""
    spec = STAGES[name]
    argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=spec.description,
        epilog=_help_table(spec),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    start = time.monotonic()
    try:
        said = _run(name, spec, main)
    except GeobodyError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = error.filename or "the disk"
        _fail(f"{place}: no space left on the device; free some and run dvc repro again", DataError.exit_code)
    seconds = time.monotonic() - start
    _end_workers()
    _log(name, seconds)
    print(f"{name}: {said}", flush=True)


def _run(name: str, spec: StageSpec, main: Callable[[Job], str]) -> str:
    pin_threads()
    check_versions(name)
    params = load_params(PARAMS_FILE)
    inputs = {key: resolve(template, params) for key, template in spec.inputs.items()}
    for path in inputs.values():
        if not path.exists():
            raise DataError(path, "is missing", _how_to_make(path, params))
    final = {key: resolve(template, params) for key, template in spec.written().items()}
    outputs = {key: path.parent / f".tmp-{name}" / path.name for key, path in final.items()}
    folders = sorted({path.parent for path in outputs.values()})
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    job = Job(name, params.view(spec.sections), inputs, outputs)
    try:
        said = main(job)
        for key, path in outputs.items():
            if not path.exists():
                raise RuntimeError(f"stage {name} did not write its output {key!r} ({final[key]})")
        for key, path in outputs.items():
            _replace(path, final[key])
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    if "scratch" in vars(job):
        shutil.rmtree(job.scratch, ignore_errors=True)
    return said


def _replace(new: Path, final: Path) -> None:
    if final.is_dir() and not final.is_symlink():
        shutil.rmtree(final)
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
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _end_workers() -> None:
    """Ends joblib's workers, which would idle on: only ended ones count in the children's peak memory."""
    if "joblib.externals.loky" in sys.modules:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(wait=True)


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
