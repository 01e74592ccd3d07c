"""Work spread over processes: results in order, with progress.

joblib's backend decides where the work runs: processes of this machine (loky), or, when the environment
variable ``GEOBODY_DASK`` names a scheduler, the workers of a Dask cluster.
"""

import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

import cv2
from joblib import Parallel, delayed, parallel_config

from geobody.cluster import Place, connected, scheduler_address
from geobody.errors import DataError, GeobodyError
from geobody.interruption import children_deaf_to_signals, end_with_parent
from geobody.progress import progress

Task = TypeVar("Task")
Result = TypeVar("Result")

TASKS_PER_WORKER = 4
"""Tasks that a cluster's worker gets at a time: bounds what scheduler and client hold."""


def in_parallel(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, total: int, desc: str, jobs: int = -1
) -> Iterator[Result]:
    """Yields ``function(task)`` for each task, in the tasks' order, computed by ``jobs`` workers (-1: cores).

    Tasks and results travel between processes, so both must pickle and be small: name files instead of
    sending arrays. Each worker computes with one thread. On a cluster all its workers take part, whatever
    ``jobs`` says; they must share this folder. An error in a worker is raised here as it was. Raises
    ``GeobodyError`` when the last result has come and they are not ``total``.
    """
    address = scheduler_address()
    if address is None:
        with children_deaf_to_signals():
            workers = Parallel(
                n_jobs=jobs, return_as="generator", initializer=_end_with, initargs=(os.getpid(),)
            )
            work = workers(delayed(_with_one_thread)(function, task) for task in tasks)
    else:
        work = _on_cluster(address, function, tasks)
    count = 0
    try:
        for result in progress(work, total=total, desc=desc):
            count += 1
            yield result
    finally:
        # Joblib regrets what is broken off here; the stage says why in its own line.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            work.close()
    if count != total:
        raise GeobodyError(f"{desc}: {count} of {total} results came back; run it again")


def _on_cluster(address: str, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Generator[Result]:
    """As ``in_parallel``; the Dask backend returns lists alone, so tasks go out in batches."""
    remaining, here = iter(tasks), Place.here()
    placed = delayed(partial(_in_place, here))
    with connected(address) as client:
        # For a moment there may be no worker: the scheduler keeps a task until one comes back.
        while batch := list(islice(remaining, TASKS_PER_WORKER * max(1, len(client.nthreads())))):
            try:
                with parallel_config(backend="dask", client=client):
                    results = Parallel()(placed(function, task) for task in batch)
            except ModuleNotFoundError as error:
                problem = f"its workers cannot import {error.name}"
                raise DataError(
                    f"GEOBODY_DASK={address}", problem, "start them with PYTHONPATH=src:."
                ) from error
            yield from results


def _in_place(here: Place, function: Callable[[Task], Result], task: Task) -> Result:
    here.take()
    return _with_one_thread(function, task)


def _end_with(stage: int) -> None:
    """A worker whose stage was killed would work on, and then wait for minutes for more."""
    end_with_parent(partial(os._exit, 1), parent=stage)


def _with_one_thread(function: Callable[[Task], Result], task: Task) -> Result:
    cv2.setNumThreads(1)
    return function(task)
