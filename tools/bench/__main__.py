"""``make bench``: runs every benchmark of this folder, or those that are named, and prints ratios.

A benchmark is a module with a function ``run(repository, *, repeats)`` that returns a ``Comparison``.
The figures also go to ``logs/bench/<name>.json``.
"""

import argparse
import importlib
import json
import pkgutil
from pathlib import Path

import tools.bench

ROOT = Path(__file__).resolve().parents[2]
NOT_BENCHMARKS = {"trainings", "timing", "__main__"}


def benchmarks() -> list[str]:
    """The names of all benchmarks, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(tools.bench.__path__)} - NOT_BENCHMARKS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench", description="Compares pairs of things.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"all when none is given: {', '.join(benchmarks())}"
    )
    parser.add_argument(
        "--repository", type=Path, default=ROOT, help="where to measure (default: this checkout)"
    )
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each (default: 7)")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(benchmarks())):
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(benchmarks())}")
    logs = ROOT / "logs" / "bench"
    logs.mkdir(parents=True, exist_ok=True)
    for name in given.names or benchmarks():
        found = importlib.import_module(f"tools.bench.{name}").run(
            given.repository.resolve(), repeats=given.repeats
        )
        (logs / f"{name}.json").write_text(json.dumps(found.plain(), indent=2) + "\n")
        print("\n".join([f"{name}:", *found.lines()]), flush=True)


if __name__ == "__main__":
    main()
