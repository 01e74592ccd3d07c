"""Several processes for one training: how many there are, which one this is, and who starts them.

How many there are changes results, so it is a param (``training.processes``). Where they run is not: a stage
starts them on this machine, or with the command in the environment variable ``GEOBODY_LAUNCHER``, or
``torchrun`` has started them already. Each finds itself in the variables that ``torchrun`` sets.
"""

import os
import shlex
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from geobody.errors import DataError, ParamsError

LAUNCHER = "GEOBODY_LAUNCHER"
POLL_SECONDS = 0.1
END_SECONDS = 20.0


@dataclass(frozen=True)
class Process:
    """One of ``count`` processes that share a stage; ``local_count`` of them are on this machine.

    The one of rank 0 writes the outputs, the others help it.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1
    launched: bool = False

    def check(self, name: str, *, wanted: int) -> None:
        """Raises ``ParamsError`` when somebody started another number of processes than the params say."""
        if self.launched and self.count != wanted:
            raise ParamsError(
                f"params.yaml: training.processes: stage {name} works in {wanted}, but torchrun started "
                f"{self.count}; let both be the same"
            )


def this_process() -> Process:
    """What ``torchrun``, or ``launch``, has told this process."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Process()
    count = int(os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    return Process(rank=int(os.environ["RANK"]), count=count, local_count=local, launched=True)


def launch(name: str, *, count: int) -> int:
    """Runs the stage in ``count`` processes; ends all when one fails, and returns its exit code.

    Of several that failed at once, a user's error (2 or 3) goes before others, which follow from it.
    """
    launcher = os.environ.get(LAUNCHER)
    if launcher:
        started = [_started([*shlex.split(launcher), "-m", f"stages.{name}"], {})]
    else:
        common = {
            "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()),
        }  # fmt: skip
        started = [
            _started(
                [sys.executable, "-m", f"stages.{name}"],
                {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(count)
        ]
    ended: list[int | None] = [None]
    try:
        while None in ended and not any(ended):
            time.sleep(POLL_SECONDS)
            ended = [process.poll() for process in started]
    finally:
        _end(started)
    failed = [code for code in ended if code]
    failed.sort(key=lambda code: code not in (2, 3))
    return (failed[0] if failed[0] > 0 else 128 - failed[0]) if failed else 0


def _started(command: list[str], variables: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        # A session of their own: Ctrl-C reaches this process alone, which then ends them in turn.
        return subprocess.Popen(command, env={**os.environ, **variables}, start_new_session=True)
    except OSError as error:
        cure = "mend the command, or unset it"
        raise DataError(
            f"{LAUNCHER}={shlex.join(command)}", f"cannot start ({error.strerror})", cure
        ) from error


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    """Ends what still runs: first politely, as a rank may be writing a checkpoint."""
    for process in started:
        if process.poll() is None:
            process.terminate()
    for process in started:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
