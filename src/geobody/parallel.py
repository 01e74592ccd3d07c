"""Work spread over processes: results in order, with progress.

joblib's backend decides where the work runs: processes of this machine, or, inside
``joblib.parallel_config(backend="dask")``, a cluster.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import cv2
from joblib import Parallel, delayed

from geobody.progress import progress

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, total: int, desc: str, jobs: int = -1
) -> Iterator[Result]:
    """Yields ``function(task)`` for each task, in the tasks' order, computed by ``jobs`` workers (-1: cores).

    Tasks and results travel between processes, so both must pickle. Each worker computes with one
    thread. An error in a worker is raised here as it was.
    """
    work = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_with_one_thread)(function, task) for task in tasks
    )
    yield from progress(work, total=total, desc=desc)


def _with_one_thread(function: Callable[[Task], Result], task: Task) -> Result:
    cv2.setNumThreads(1)
    return function(task)
