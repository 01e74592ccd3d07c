"""Benchmarks time both sides in turns, under the same load, and say whether a goal is met."""

import time

import pytest

from tools.bench.__main__ import benchmarks
from tools.bench.timing import Comparison, Timing, compare


def test_both_are_run_in_turns_after_one_untimed_run_of_each() -> None:
    ran: list[str] = []
    found = compare(
        subject=("a", lambda: ran.append("a")), reference=("b", lambda: ran.append("b")), repeats=3, goal=1.0
    )
    assert ran == ["a", "b"] * 4
    assert found.repeats == 3


def test_the_ratio_is_that_of_the_medians() -> None:
    naps = iter([0.0, 0.05, 0.3, 0.05])  # the first is not timed, the slow one is no median
    found = compare(
        subject=("slow", lambda: time.sleep(next(naps))),
        reference=("fast", lambda: time.sleep(0.01)),
        repeats=3,
        goal=2.0,
    )
    assert 0.05 <= found.subject.wall_s < 0.2
    assert found.wall_ratio == pytest.approx(found.subject.wall_s / found.reference.wall_s)
    assert found.subject.cpu_s < 0.05  # sleeping costs no work


@pytest.mark.parametrize(("seconds", "verdict"), [(3.9, "met"), (4.1, "missed")])
def test_a_goal_is_met_or_missed(seconds: float, verdict: str) -> None:
    found = Comparison(Timing("x", seconds, 1.0), Timing("y", 2.0, 1.0), repeats=1, goal=2.0)
    assert found.lines()[-1].endswith(f"goal 2: {verdict}")


def test_every_benchmark_is_found() -> None:
    assert "noop_repro" in benchmarks()
    assert "timing" not in benchmarks()
