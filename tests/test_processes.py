import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geobody.errors import DataError, ParamsError
from geobody.processes import EXIT_FILE, LAUNCHER, Process, launch, leave_code, this_process

ROOT = Path(__file__).parents[1]

PROGRAM = """
import json, os, sys, time
from pathlib import Path
rank = os.environ.get("RANK", "none")
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
Path(f"started_{rank}.json").write_text(json.dumps({name: os.environ.get(name) for name in names}))
"""


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """``stage(code)`` makes a stage ``fake`` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", LAUNCHER, EXIT_FILE):
        monkeypatch.delenv(name, raising=False)

    def make(code: str = "") -> Path:
        (tmp_path / "stages").mkdir()
        (tmp_path / "stages/__init__.py").touch()
        (tmp_path / "stages/fake.py").write_text(PROGRAM + code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return tmp_path

    return make


def test_each_process_learns_who_it_is(stage):
    folder = stage()
    assert launch("fake", count=3) == 0
    found = [json.loads((folder / f"started_{rank}.json").read_text()) for rank in range(3)]
    assert [(f["RANK"], f["LOCAL_RANK"]) for f in found] == [("0", "0"), ("1", "1"), ("2", "2")]
    assert {(f["WORLD_SIZE"], f["LOCAL_WORLD_SIZE"], f["MASTER_ADDR"]) for f in found} == {
        ("3", "3", "127.0.0.1")
    }
    assert len({f["MASTER_PORT"] for f in found}) == 1


@pytest.mark.parametrize(
    ("others", "code"),
    [("time.sleep(600)", 3), ("time.sleep(1), sys.exit(1)", 3), ("os.kill(os.getpid(), 9)", 137)],
)
def test_one_that_fails_ends_all_and_gives_the_exit_code(stage, others, code):
    """Rank 1 ends by a user's error; the other waits, fails because of it, or was killed before."""
    delay = "time.sleep(5)" if code == 137 else "None"
    stage(f"({delay}, sys.exit(3)) if rank == '1' else ({others})")
    start = time.monotonic()
    assert launch("fake", count=2) == code
    assert time.monotonic() - start < 30


def test_a_launcher_takes_the_place_of_this_machines_processes(stage, monkeypatch):
    folder = stage()
    monkeypatch.setenv(LAUNCHER, f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2")
    assert launch("fake", count=2) == 0
    found = [json.loads((folder / f"started_{rank}.json").read_text()) for rank in range(2)]
    assert [f["RANK"] for f in found] == ["0", "1"]


def test_a_launcher_that_is_not_there_is_one_line(stage, monkeypatch):
    stage()
    monkeypatch.setenv(LAUNCHER, "no_such_program --nodes 2")
    with pytest.raises(
        DataError, match=r"GEOBODY_LAUNCHER=no_such_program --nodes 2 .*cannot start"
    ) as caught:
        launch("fake", count=2)
    assert "\n" not in str(caught.value)


PARENT = """
from geobody import processes
from geobody.interruption import interruptible
processes.END_SECONDS = {end_seconds}
with interruptible():
    processes.launch("fake", count=2)
"""


def parent_of(folder: Path, *, end_seconds: float = 20, **variables: str) -> subprocess.Popen[bytes]:
    """A process that has launched the stage, whose two ranks have started."""
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT / "src")))}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(end_seconds=end_seconds)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    patience = time.monotonic() + 60
    while not all((folder / f"started_{rank}.json").exists() for rank in range(2)):
        assert time.monotonic() < patience
        time.sleep(0.1)
    return parent


def alive(folder: Path) -> list[str]:
    """Processes that stand in the folder and are a stage's, or its launcher's."""
    found = subprocess.run(["pgrep", "-f", "stages.fake"], capture_output=True, text=True).stdout.split()
    return [pid for pid in found if (Path("/proc") / pid).exists() and _stands_in(pid, folder)]


def _stands_in(pid: str, folder: Path) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == str(folder)
    except OSError:  # it has just ended
        return False


def test_a_signal_to_the_stage_ends_its_processes(stage):
    folder = stage("time.sleep(600)")
    parent = parent_of(folder)
    assert len(alive(folder)) == 2
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) != 0
    assert alive(folder) == []


def test_a_signal_ends_processes_that_ignore_it(stage):
    """The signal comes again every two seconds: it must not break off the wait before the kill."""
    folder = stage("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                   "Path(f'deaf_{rank}').touch()\ntime.sleep(600)")  # fmt: skip
    parent = parent_of(folder, end_seconds=3)
    while len(list(folder.glob("deaf_*"))) < 2:
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) != 0
    assert alive(folder) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux'")
def test_a_launcher_ends_when_its_stage_is_killed(stage):
    folder = stage("time.sleep(600)")
    launcher = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    parent = parent_of(folder, **{LAUNCHER: launcher})
    assert len(alive(folder)) == 3
    parent.kill()
    parent.wait()
    patience = time.monotonic() + 30
    while alive(folder) and time.monotonic() < patience:
        time.sleep(0.1)
    assert alive(folder) == []


@pytest.mark.parametrize("code", [2, 3])
def test_a_users_error_keeps_its_exit_code_behind_a_launcher(stage, monkeypatch, code):
    """torchrun ends with 1, whatever its processes end with."""
    monkeypatch.setenv(LAUNCHER, f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2")
    folder = stage(f"Path(os.environ['{EXIT_FILE}']).write_text('{code}'); sys.exit({code})")
    assert launch("fake", count=2) == code
    assert not list(folder.glob(".scratch/*"))


def test_the_first_that_ends_tells_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv(EXIT_FILE, raising=False)
    assert leave_code(3)
    assert leave_code(3)  # nobody launched it: it speaks for itself
    monkeypatch.setenv(EXIT_FILE, str(tmp_path / "exit"))
    assert leave_code(3)
    assert not leave_code(143)
    assert (tmp_path / "exit").read_text() == "3"


def test_another_number_than_the_params_say_is_refused():
    two = Process(rank=1, count=2, local_count=2, launched=True)
    two.check("encdec", wanted=2)
    Process().check("encdec", wanted=2)  # it will launch them
    with pytest.raises(ParamsError, match=r"training.processes: stage controls works in 1, but .* started 2"):
        two.check("controls", wanted=1)


def test_who_this_process_is(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert this_process() == Process(rank=0, count=1, launched=False)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert this_process() == Process(rank=5, count=8, local_count=4, launched=True)
