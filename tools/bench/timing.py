"""Two actions timed in turns: what slows the machine for a while slows both."""

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Action = Callable[[], None]


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats, in seconds; ``cpu_s`` counts this process and its ended children."""

    what: str
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Comparison:
    """What ``subject`` costs beside ``reference``, and the largest ratio of wall times that is aimed at."""

    subject: Timing
    reference: Timing
    repeats: int
    goal: float

    @property
    def wall_ratio(self) -> float:
        return self.subject.wall_s / self.reference.wall_s

    @property
    def cpu_ratio(self) -> float:
        return self.subject.cpu_s / self.reference.cpu_s

    def lines(self) -> list[str]:
        """The figures as people read them."""
        rows = [
            f"  {x.what}: {x.wall_s:.2f} s, {x.cpu_s:.2f} s of CPU" for x in (self.subject, self.reference)
        ]
        verdict = "met" if self.wall_ratio <= self.goal else "missed"
        ratios = f"ratio {self.wall_ratio:.2f}, of CPU {self.cpu_ratio:.2f}"
        return [*rows, f"  {ratios} (medians of {self.repeats}); goal {self.goal:g}: {verdict}"]

    def plain(self) -> dict[str, Any]:
        """The figures for a JSON file."""
        return asdict(self) | {"wall_ratio": self.wall_ratio, "cpu_ratio": self.cpu_ratio}


def compare(
    *, subject: tuple[str, Action], reference: tuple[str, Action], repeats: int, goal: float
) -> Comparison:
    """Times both actions in turns, after one untimed run of each that fills caches."""
    named = (subject, reference)
    for _, action in named:
        action()
    found: list[list[tuple[float, float]]] = [[], []]
    for _ in range(repeats):
        for (_, action), times in zip(named, found, strict=True):
            wall, cpu = time.perf_counter(), _cpu_seconds()
            action()
            times.append((time.perf_counter() - wall, _cpu_seconds() - cpu))
    timings = [
        Timing(what, *(statistics.median(column) for column in zip(*times, strict=True)))
        for (what, _), times in zip(named, found, strict=True)
    ]
    return Comparison(timings[0], timings[1], repeats, goal)


def _cpu_seconds() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(x.ru_utime + x.ru_stime for x in usage)
