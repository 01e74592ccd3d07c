"""Settings of every test, and the order in which two workers take the files."""

import os
import signal

import pytest
from hypothesis import settings

# Workers share the cores; a stage sets its own count. Before any library reads it.
os.environ["OMP_NUM_THREADS"] = "1"

# A busy machine is no failure, and a run that repeats is worth more than other examples each time.
settings.register_profile("geobody", deadline=None, derandomize=True)
settings.load_profile("geobody")

FIRST = "tests/pipeline/test_kill_and_resume.py"
MEANWHILE = ("tests/body/", "tests/data/")


def pytest_configure() -> None:
    """Lets the stages that tests start hear the signals that a shell has its background ignore."""
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, default)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, which has the tiny repository made; quick files meanwhile; then the slow ones.

    The rest comes last, so that no worker ends long before the other (``pytest -n 2 --dist loadfile
    --no-loadscope-reorder`` hands out whole files in this order).
    """

    def turn(item: pytest.Item) -> int:
        if item.nodeid.startswith(FIRST):
            return 0
        if item.nodeid.startswith(MEANWHILE):
            return 1
        return 2 if item.nodeid.startswith("tests/pipeline/") else 3

    items.sort(key=turn)
