"""A Dask scheduler and its workers on this machine, started with the commands that a user types."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 60


@contextmanager
def dask_cluster(code: Path, folder: Path, *, workers: int = 2, threads: int = 1) -> Iterator[str]:
    """Address of a scheduler with ``workers`` processes that import the code of the repository ``code``."""
    file = folder / "scheduler.json"
    path = os.pathsep.join(str(code / name) for name in ("src", ".", "tests"))
    environment = {**os.environ, "PYTHONPATH": path}
    common = ["--no-dashboard", "--scheduler-file", str(file)]
    program = Path(sys.executable).with_name("dask")
    started = []
    with (folder / "dask.log").open("w") as log:

        def start(*command: str) -> None:
            process = subprocess.Popen(
                [sys.executable, str(program), *command, *common],
                cwd=code, env=environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            started.append(process)

        try:
            start("scheduler", "--host", "127.0.0.1", "--port", "0")
            deadline = time.monotonic() + PATIENCE_S
            while not file.exists() or not file.read_text():
                assert time.monotonic() < deadline, (folder / "dask.log").read_text()
                time.sleep(0.1)
            if workers:
                place = ["--local-directory", str(folder), "--host", "127.0.0.1"]
                start("worker", "--nworkers", str(workers), "--nthreads", str(threads), *place)
            yield json.loads(file.read_text())["address"]
        finally:
            for process in reversed(started):
                process.terminate()
            for process in reversed(started):
                process.wait(PATIENCE_S)
