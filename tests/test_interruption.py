"""A stage that is told to end, or whose parent ends, takes its workers and its temporary outputs with it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from geobody.interruption import Interrupted, ignore_signals, interruptible
from geobody.stage import Job, run

ROOT = Path(__file__).resolve().parents[1]

STAGE = """
import sys
import time

from geobody.stage import run


def main(job):
    from geobody.parallel import in_parallel

    (job.outputs["crops"] / "half").mkdir(parents=True)
    for _ in in_parallel(beat, range(2), total=2, desc="sleepers", jobs=2):
        pass


def beat(number):
    open(f"beat{number}", "w").close()
    time.sleep(60)


run("crops", main)
"""

QUICK = """
from geobody.stage import run


def main(job):
    job.outputs["crops"].mkdir()
    for name in ("metrics", "figure"):
        job.outputs[name].write_bytes(b"{}")
    return "done"


run("crops", main)
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with what the stage ``crops`` needs to begin."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for name in ("data/index", "data/backgrounds", "data/synthetic"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/synthetic/manifest.parquet").write_bytes(b"manifest")
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", **more}


@contextmanager
def at_work(workplace: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """The stage with two busy workers, and all its processes; the parent of the stage is ``sh``'s child."""
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE],
        cwd=workplace, env=environment(**more), start_new_session=True, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: (workplace / "beat0").exists() and (workplace / "beat1").exists())
        yield process, [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    finally:
        with_group(process, signal.SIGKILL)
        process.communicate()


def with_group(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("to_group", [True, False])
def test_a_signal_ends_the_stage_in_one_line(workplace: Path, number: signal.Signals, to_group: bool) -> None:
    with at_work(workplace) as (stage, processes):
        os.killpg(stage.pid, number) if to_group else stage.send_signal(number)
        _, errors = stage.communicate(timeout=30)
        assert stage.returncode == 128 + number
        assert errors == f"error: crops: ended by {number.name}; dvc repro begins it anew\n"
        assert not list(workplace.rglob(".tmp-*"))
        assert psutil.wait_procs(processes, timeout=5)[1] == []


def test_after_kill_9_the_workers_end_and_the_next_run_cleans_up(workplace: Path) -> None:
    with at_work(workplace) as (stage, processes):
        stage.kill()
        assert psutil.wait_procs(processes, timeout=10)[1] == []
    assert list(workplace.rglob(".tmp-*/crops/half"))
    subprocess.run([sys.executable, "-c", QUICK], cwd=workplace, env=environment(), check=True, timeout=60)
    assert (workplace / "data/crops").is_dir()
    assert not list(workplace.rglob("half"))
    assert not list(workplace.glob(".scratch/*"))


PARENT = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
process.wait()
"""


@pytest.mark.parametrize(("variables", "ends"), [({"DVC_STAGE": "crops"}, True), ({}, False)])
def test_a_stage_of_dvc_ends_with_it_and_one_started_by_hand_does_not(
    workplace: Path, variables: dict[str, str], ends: bool
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, STAGE],
        cwd=workplace, env=environment(**variables), start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: (workplace / "beat0").exists() and (workplace / "beat1").exists())
        processes = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        parent.wait()
        left = psutil.wait_procs(processes, timeout=10 if ends else 2)[1]
        assert (left == []) == ends
        assert bool(list(workplace.rglob(".tmp-*"))) != ends
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)


def test_a_twin_in_the_same_folder_ends_in_one_line_and_disturbs_nobody(workplace: Path) -> None:
    with at_work(workplace) as (stage, _):
        twin = subprocess.run(
            [sys.executable, "-c", QUICK],
            cwd=workplace, env=environment(), capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert twin.returncode == 3
        assert twin.stderr == (
            f"error: .scratch/crops.lock: process {stage.pid} runs this stage here; "
            "wait until it has ended, or end it, and run again\n"
        )
        assert list(workplace.rglob(".tmp-*/crops/half"))
        assert stage.poll() is None


def test_a_signal_that_python_dropped_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in a destructor is printed and forgotten; the stage must end all the same."""
    monkeypatch.setattr("geobody.interruption.REPEAT_SECONDS", 0.2)
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)

    class Closes:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted), interruptible() as interruption:
        closes = Closes()
        del closes
        dropped = True
        time.sleep(5)
    assert dropped
    assert interruption.signal == signal.SIGTERM


def test_signals_are_ignored_once_the_end_is_near_and_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible():
        ignore_signals()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("outcome", ["another error", "a fallback"])
def test_a_signal_counts_whatever_a_library_makes_of_it(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: str
) -> None:
    """A library's bare ``except`` must not turn Ctrl-C into a traceback, nor into outputs of its fallback."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr("sys.argv", ["stages.crops"])

    def main(job: Job) -> str:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            if outcome == "another error":
                raise NameError("half an import") from error
        job.outputs["crops"].mkdir()
        for name in ("metrics", "figure"):
            job.outputs[name].write_bytes(b"of the fallback")
        return "done"

    with pytest.raises(SystemExit) as ended:
        run("crops", main)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "error: crops: ended by SIGINT; dvc repro begins it anew\n"
    assert not (workplace / "data/crops").exists()


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_python_drops_of_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Falls:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: reported.append(type(dropped.exc_value)))
    before = sys.unraisablehook
    with interruptible():
        for error in (Interrupted(), ValueError()):
            Falls(error)  # nobody keeps it
    assert reported == [ValueError]
    assert sys.unraisablehook is before
