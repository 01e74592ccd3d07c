"""Progress of long work: a bar on a terminal, one line a minute elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

LINE_SECONDS = 60.0


def progress(iterable: Iterable[T], *, total: int | None = None, desc: str, initial: int = 0) -> Iterator[T]:
    """Yields the items of ``iterable`` and says on standard error how far it has come.

    ``total`` is the number of items when the iterable has no length; ``initial`` counts items
    that an earlier, interrupted run has done.
    """
    if total is None and isinstance(iterable, Sized):
        total = initial + len(iterable)
    if sys.stderr.isatty():
        yield from tqdm(iterable, total=total, desc=desc, initial=initial, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for done, item in enumerate(iterable, start=initial + 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            of_total = f"/{total} ({100 * done / total:.0f} %)" if total else ""
            rate = (done - initial) / (now - start)
            print(f"{desc}: {done}{of_total}, {rate:.3g} a second", file=sys.stderr, flush=True)
