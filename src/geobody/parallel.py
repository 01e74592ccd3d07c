"""Work spread over processes: results in order, progress, and errors that reach the user as they were.

joblib's backend decides where the work runs: processes of this machine, or, inside
``joblib.parallel_config(backend="dask")``, a cluster.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
from joblib import Parallel, delayed

from geobody.errors import GeobodyError
from geobody.progress import progress

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Task], Result], tasks: Iterable[Task], *, total: int, desc: str, jobs: int = -1
) -> Iterator[Result]:
    """Yields ``function(task)`` for each task, in the tasks' order, computed by ``jobs`` workers (-1: cores).

    Tasks and results travel between processes, so both must pickle. Each worker computes with one
    thread. A ``GeobodyError`` in a worker is raised here with its own type and message.
    """
    work = Parallel(n_jobs=jobs, return_as="generator")(delayed(_guarded)(function, task) for task in tasks)
    for result in progress(work, total=total, desc=desc):
        if isinstance(result, _Failure):
            work.close()
            raise result.error()
        yield result


@dataclass(frozen=True)
class _Failure:
    """An error on its way: an exception whose ``__init__`` has other arguments does not unpickle."""

    kind: type[GeobodyError]
    message: str
    state: dict[str, Any]

    def error(self) -> GeobodyError:
        error = self.kind.__new__(self.kind)
        error.args = (self.message,)
        error.__dict__.update(self.state)
        return error


def _guarded(function: Callable[[Task], Result], task: Task) -> Result | _Failure:
    cv2.setNumThreads(1)
    try:
        return function(task)
    except GeobodyError as error:
        return _Failure(type(error), str(error), vars(error))
