"""Work spread over processes: results in order, with progress.

The work runs in processes of this machine, or, when the environment variable ``GEOBODY_DASK`` names a scheduler, on
the workers of a Dask cluster.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import cv2
from joblib import Parallel, delayed

from geobody.cluster import on_workers, scheduler_address
from geobody.errors import GeobodyError
from geobody.interruption import children_deaf_to_signals, end_with_parent
from geobody.progress import progress

# Joblib regrets what is broken off, maybe as late as the interpreter's end, when no filter can be set any more; the
# stage says why in its own line.
warnings.filterwarnings("ignore", r"\d+ tasks (have been|which were)", UserWarning, r"joblib\.parallel")


def _unless_workers_were_killed(args: threading.ExceptHookArgs) -> None:
    """Of a thread of loky's that was told to kill its workers: it drops their tasks, and may then miss one."""
    if not getattr(getattr(args.thread, "executor_flags", None), "kill_workers", False):
        _report(args)


_report, threading.excepthook = threading.excepthook, _unless_workers_were_killed

Task = TypeVar("Task")
Result = TypeVar("Result")


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
        work = on_workers(address, partial(_with_one_thread, function), tasks)
    count = 0
    try:
        for result in progress(work, total=total, desc=desc):
            count += 1
            yield result
    finally:
        work.close()
    if count != total:
        raise GeobodyError(f"{desc}: {count} of {total} results came back; run it again")


def _end_with(stage: int) -> None:
    """A worker whose stage was killed would work on, and then wait for minutes for more."""
    end_with_parent(partial(os._exit, 1), parent=stage)


def _with_one_thread(function: Callable[[Task], Result], task: Task) -> Result:
    cv2.setNumThreads(1)
    return function(task)
