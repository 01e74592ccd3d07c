"""Several processes for one training: how many there are, which one this is, and who starts them.

How many there are changes results, so it is a param (``training.processes``). Where they run is not: a stage
starts them on this machine, or with the command in the environment variable ``GEOBODY_LAUNCHER``, or
``torchrun`` has started them already. Each finds itself in the variables that ``torchrun`` sets.
"""

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from geobody.errors import DataError, ParamsError
from geobody.interruption import Interrupted, deaf_to_signals
from geobody.scratch import FOLDER

LAUNCHER = "GEOBODY_LAUNCHER"
EXIT_FILE = "GEOBODY_EXIT_FILE"
"""Where the first process that ends by a line of its own leaves its exit code: ``torchrun`` ends with 1."""
POLL_SECONDS = 0.1
END_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1  # of Linux' prctl


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

    Of several that failed at once, a user's error (2 or 3) goes before others, which follow from it. A
    signal ends all; ``Interrupted`` goes on from here unless one of them has told the user.
    """
    file = Path(FOLDER) / f"{name}-{os.getpid()}.exit"
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)  # of a process that had this number and was killed
    try:
        code = _launch(name, count=count, file=file)
        return (_left_code(file) or code) if code and os.environ.get(LAUNCHER) else code
    except Interrupted:
        if (left := _left_code(file)) is None:
            raise
        return left
    finally:
        file.unlink(missing_ok=True)


def leave_code(code: int) -> bool:
    """Leaves this process' exit code for the stage that launched it; returns whether to tell the user why.

    That is for the first that ends: the others end because of it, or for the same reason.
    """
    if name := os.environ.get(EXIT_FILE):
        with suppress(OSError):  # a full disk: the stage then ends with the launcher's code
            try:
                with Path(name).open("x") as file:
                    file.write(str(code))
            except FileExistsError:
                return False
    return True


def _left_code(file: Path) -> int | None:
    text = file.read_text() if file.exists() else ""
    return int(text) if text.isdecimal() else None


def _launch(name: str, *, count: int, file: Path) -> int:
    launcher, told = os.environ.get(LAUNCHER), {EXIT_FILE: str(file.absolute())}
    if launcher:
        commands = [([*shlex.split(launcher), "-m", f"stages.{name}"], told)]
    else:
        common = {
            "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()),
        }  # fmt: skip
        commands = [
            (
                [sys.executable, "-m", f"stages.{name}"],
                {**told, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(count)
        ]
    started: list[subprocess.Popen[bytes]] = []
    ended: list[int | None] = [None]
    try:
        for command, variables in commands:
            started.append(_started(command, variables))
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
        return subprocess.Popen(
            command, env={**os.environ, **variables}, start_new_session=True, preexec_fn=_ends_with_stage()
        )
    except OSError as error:
        cure = "mend the command, or unset it"
        raise DataError(
            f"{LAUNCHER}={shlex.join(command)}", f"cannot start ({error.strerror})", cure
        ) from error


def _ends_with_stage() -> Callable[[], None] | None:
    """What a new process calls first, so that Linux sends it SIGTERM when this one dies, be it by kill -9.

    A launcher such as ``torchrun`` does not ask whether its parent lives, and would go on and publish.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has died already
            os._exit(1)

    return ask


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    """Ends what still runs: first politely, as a rank may be writing a checkpoint.

    Deaf to signals, which come again and again: broken off, it would leave a rank that nobody ends.
    """
    with deaf_to_signals():
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
