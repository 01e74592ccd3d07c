"""Ends a stage cleanly on a signal, and its processes with it.

A stage that is told to end raises ``Interrupted`` where it stands, so that its ``finally`` blocks run.
A process whose parent was killed learns of it by asking who its parent is, a few times a second: that
works for ``kill -9`` as well, and on every POSIX system.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WATCH_SECONDS = 0.2
SETTLE_SECONDS = 5 * WATCH_SECONDS
"""After this long, nothing that a killed run left behind still writes."""
REPEAT_SECONDS = 2.0


class Interrupted(KeyboardInterrupt):
    """A signal has asked the stage to end."""


class Interruption:
    """The signal that came first, if any.

    It counts whatever became of ``Interrupted``: Python drops what is raised inside a destructor or a
    callback, and an import that is broken off may come out as another error, or as a fallback.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.next_time = "dvc repro begins it anew"
        self.waits = False

    def check(self) -> None:
        """Raises ``Interrupted`` when a signal has come, but not in a block that must not be broken off."""
        if self.signal and not self.waits:
            raise Interrupted


_current = Interruption()


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Raises ``Interrupted`` in the block when a signal comes, unless it is ignored already (``nohup``)."""
    global _current
    _current = interruption = Interruption()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGALRM and not interruption.signal:
            interruption.signal = signal.Signals(number)
        signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS)  # in case that nobody hears
        interruption.check()

    def unraisable(dropped: "sys.UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, Interrupted):  # which is raised again, and needs no traceback
            report(dropped)

    report, sys.unraisablehook = sys.unraisablehook, unraisable
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield interruption
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)
        _current = Interruption()


def ignore_signals() -> None:
    """From here to the end of ``interruptible``: what is left takes less time than undoing it would."""
    for number in (*SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def deaf_to_signals() -> Iterator[None]:
    """Signals that come in the block are lost: for what ends processes, which must not be broken off."""
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    ignore_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def children_deaf_to_signals() -> Iterator[None]:
    """Processes that start in the block never see the signals: their parent ends them.

    Ctrl-C goes to every process of the terminal; without this each worker would print a traceback. Nor
    is the block itself broken off, which might leave a process that nobody knows of.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    _current.waits = True
    try:
        yield
    finally:
        _current.waits = False
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    _current.check()


def end_with_parent(end: Callable[[], object], *, parent: int | None = None) -> None:
    """Starts a thread that calls ``end`` once when this process' parent has died.

    ``parent`` says who that was at first: it may have died already.
    """
    first = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == first:
            time.sleep(WATCH_SECONDS)
        end()

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()
