"""A Dask cluster in place of this machine's cores: which one, and whether its workers may be trusted.

Where work runs cannot change a result, so the scheduler's address is no param: it comes from the
environment variable ``GEOBODY_DASK``. A worker lives longer than a stage, may have imported code that has
changed since, and stands in another folder. So each task carries a ``Place`` that the worker must match.
"""

import hashlib
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import _lru_cache_wrapper, cache, lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from geobody.dependencies import ROOT
from geobody.errors import DataError, ParamsError
from geobody.versions import PYTHON, VERSIONS_FILE, installed
from geobody.yaml12 import read_yaml

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Result = TypeVar("Result")

ADDRESS = "GEOBODY_DASK"
TIMEOUT_S = 20
POLL_SECONDS = 0.2

TASKS_PER_WORKER = 4
"""Tasks that a worker gets at a time: bounds what scheduler and client hold."""

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Dask's nanny sets them for its workers; a worker that runs without one may lack them."""

_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://.+:\d+")
_START = "start workers in the repository's folder with: PYTHONPATH=src:. dask worker ADDRESS --nthreads 1"


def scheduler_address() -> str | None:
    """Address of the Dask scheduler that shall spread the work, e.g. tcp://host:8786; None: this machine."""
    return os.environ.get(ADDRESS) or None


@contextmanager
def connected(address: str) -> Iterator["Client"]:
    """A client of the scheduler at ``address`` with at least one worker, each of one thread.

    Raises ``ParamsError`` without the package or for what is no address, ``DataError`` when nobody answers
    there, a worker has several threads, or one is still at a task of a stage that was ended.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ParamsError(
            f"{ADDRESS}: value {address!r}: needs the package distributed; "
            "install the extra geobody[cluster], or unset it"
        ) from error
    if not _ADDRESS.fullmatch(address):
        raise ParamsError(f"{ADDRESS}: value {address!r}: an address as in tcp://host:8786")
    named = f"{ADDRESS}={address}"
    try:
        client = Client(address, timeout=TIMEOUT_S, set_as_default=False)
    except OSError as error:
        cure = "start `dask scheduler` there, or unset the variable"
        raise DataError(named, f"no scheduler answers within {TIMEOUT_S} s", cure) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=TIMEOUT_S)
        except TimeoutError as error:
            raise DataError(named, f"has no worker after {TIMEOUT_S} s", _START) from error
        for worker, threads in sorted(client.nthreads().items()):
            if threads != 1:
                raise DataError(named, f"worker {worker} runs {threads} tasks at once", _START)
        _wait_for_leftovers(client, named)
        yield client


def on_workers(address: str, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Generator[Result]:
    """Yields ``function(task)`` for each task, in order, computed by the workers of the scheduler at ``address``.

    An error in a worker is raised here as it was; raises ``DataError`` as ``connected`` and ``Place.take``.
    """
    here, remaining = Place.here(), iter(tasks)
    with connected(address) as client:
        # For a moment there may be no worker: the scheduler keeps a task until one comes back.
        while batch := list(islice(remaining, TASKS_PER_WORKER * max(1, len(client.nthreads())))):
            try:
                results = client.gather(client.map(partial(_in_place, here, function), batch, pure=False))
            except ModuleNotFoundError as error:
                problem = f"its workers cannot import {error.name}"
                cure = "start them with PYTHONPATH=src:."
                raise DataError(f"{ADDRESS}={address}", problem, cure) from error
            yield from results


def _in_place(here: "Place", function: Callable[[Task], Result], task: Task) -> Result:
    here.take()
    return function(task)


def check_cluster() -> None:
    """Returns when the cluster, if one is asked for, may be given work; else raises as ``connected``."""
    if address := scheduler_address():
        with connected(address):
            pass


def _wait_for_leftovers(client: "Client", named: str) -> None:
    """A task that runs cannot be cancelled: it writes on after its stage was ended."""

    def leftovers(dask_worker: Any) -> int:  # sent as it stands: a worker need not find this module
        return sum(task.state in ("cancelled", "resumed") for task in dask_worker.state.all_running_tasks)

    patience = time.monotonic() + TIMEOUT_S
    while count := sum(client.run(leftovers).values()):
        if time.monotonic() > patience:
            cure = "wait until they have ended, or start the workers anew, and run again"
            raise DataError(named, f"tasks of a stage that was ended still run there ({count})", cure)
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Place:
    """Where a task's paths begin, and which code and packages must carry it out; ``run`` names this work."""

    folder: Path
    run: str
    code: str
    packages: tuple[str, ...]

    @classmethod
    def here(cls) -> "Place":
        """This process's folder, code and packages, and a new run."""
        return cls(Path.cwd(), uuid4().hex, code_digest(), package_versions())

    def take(self) -> None:
        """Moves a worker's process into the folder; raises ``DataError`` where it would not do the same work."""
        worker = f"the Dask worker on {platform.node()}"
        if self.code != code_digest():
            raise DataError(worker, f"has imported other code than that of {self.folder}", f"{_START} (anew)")
        if self.packages != package_versions():
            theirs = " ".join(sorted(set(package_versions()) - set(self.packages)))
            ours = " ".join(sorted(set(self.packages) - set(package_versions())))
            raise DataError(worker, f"has {theirs}, not {ours}", "give it this environment")
        if unset := [name for name in ONE_THREAD if os.environ.get(name) != "1"]:
            raise DataError(worker, "may compute with several threads", f"set {unset[0]}=1 before it starts")
        try:
            os.chdir(self.folder)
        except OSError as error:
            cure = "put the repository and its cache into a folder that all machines share"
            raise DataError(worker, f"cannot enter {self.folder}", cure) from error
        _forget_other_runs(self.run)


@lru_cache(maxsize=1)
def _forget_other_runs(run: str) -> None:
    """Empties what this package's functions have cached by a file's name: the file may be another now."""
    for name, module in list(sys.modules.items()):
        if name.startswith("geobody.") and name != __name__:
            for value in vars(module).values():
                if isinstance(value, _lru_cache_wrapper):
                    value.cache_clear()


@cache
def code_digest() -> str:
    """Sixteen hex digits over this package's modules, as they were when this process first asked."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def package_versions() -> tuple[str, ...]:
    """Name and version of Python and of every package that can move a result: those of ``versions.yaml``."""
    packages = [name for name in read_yaml(ROOT / VERSIONS_FILE) if name != PYTHON]
    return f"python {platform.python_version()}", *(f"{name} {installed(name)}" for name in sorted(packages))
