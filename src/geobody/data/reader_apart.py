"""Reads files in a process apart: a reader that crashes on damaged bytes takes nothing else with it.

SciPy's reader of ``.mat`` files follows numbers in the file out of its own tables. The stages compare the
files with the manifest first; where there may be none yet, they are read here.
"""

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from geobody.errors import DataError
from geobody.interruption import children_deaf_to_signals, end_with_parent

Content = TypeVar("Content")


class ReaderApart(Generic[Content]):
    """Calls ``read`` in one process that stays for many files; what it gives or raises must pickle."""

    def __init__(self, read: Callable[[Path], Content]) -> None:
        self._read = read
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "ReaderApart[Content]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def __call__(self, path: Path) -> Content:
        """What the file holds. Raises what ``read`` raises, and DataError for a file that crashes it."""
        try:
            with children_deaf_to_signals():  # the process starts with the first file
                self._pool = self._pool or _one_process()
                reading = self._pool.submit(self._read, path)
            return reading.result()
        except BrokenProcessPool:
            self._pool = None  # the next file gets another process
            raise DataError(path, "is damaged: reading it crashes", "restore it from the data set") from None


def _one_process() -> ProcessPoolExecutor:
    # A fork would take over locks that threads of this process hold.
    return ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_end_with, initargs=(os.getpid(),)
    )


def _end_with(parent: int) -> None:
    end_with_parent(partial(os._exit, 1), parent=parent)
