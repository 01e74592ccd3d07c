"""Stages and ``dvc`` itself are killed at random moments; ``dvc repro`` then gives the undisturbed lock."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from geobody.paths import STAGES
from pipeline_types import Copy, Run
from tools.smoke import stage_environment

RESUMING = ("encdec", "pose_head", "controls", "gan_prior", "smpl_regressor")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MARK = "GEOBODY_TEST_MARK"
GRACE_SECONDS = 5.0


def start(
    repository: Path, mark: str, *command: str, ctrl_c: signal.Handlers = signal.SIG_DFL
) -> subprocess.Popen[str]:
    """``python -m command`` in a session of its own; its processes inherit ``mark``.

    ``ctrl_c`` is what SIGINT does to it at first: the default, for it may be ignored below `make test &`.
    """
    environment = {**stage_environment(), MARK: mark, "GEOBODY_CHECKPOINT_SECONDS": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=repository, env=environment, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, ctrl_c),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Whether ``condition`` came true within ``seconds``."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def ignores(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return bool(int(re.findall(r"^SigIgn:\t(\w+)$", status, re.MULTILINE)[0], 16) >> (number - 1) & 1)


def checkpoints(repository: Path, name: str) -> list[Path]:
    return list(repository.glob(f".scratch/{name}-*/**/[!.]*.safetensors"))


def no_process_of(mark: str) -> bool:
    return wait_for(lambda: not list(marked(mark)), GRACE_SECONDS)


def undisturbed_seconds(repository: Path, name: str) -> float:
    return 60 * json.loads((repository / "logs" / f"{name}.json").read_text())["minutes"]


def kill_stage(
    repository: Path, name: str, sent: signal.Signals, *, moment: float, after_checkpoint: bool
) -> str | None:
    """Sends the signal ``moment`` seconds after ``stages/__init__.py`` took SIGINT, or after a checkpoint.

    Before that Python itself starts, whose end by Ctrl-C is a traceback that names no file of ours.
    Returns what is wrong with how the stage ended, or None; "finished" when the signal came too late.
    """
    mark = f"{repository}:{name}:{sent.name}:{moment}"
    process = start(repository, mark, f"stages.{name}", ctrl_c=signal.SIG_IGN)
    if not wait_for(lambda: process.poll() is None and not ignores(process, signal.SIGINT), 60):
        process.kill()
        return f"never took SIGINT: {process.communicate()}"
    if after_checkpoint:
        wait_for(lambda: checkpoints(repository, name) or process.poll() is not None, 300)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(sent)
    try:
        _, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        left = [(p.pid, p.cmdline()) for p in marked(mark)]
        os.killpg(process.pid, signal.SIGKILL)
        return f"goes on, or leaves processes that do: {left}"
    if process.returncode == 0:
        return "finished"
    if not no_process_of(mark):
        return f"left processes: {[p.cmdline() for p in marked(mark)]}"
    if sent == signal.SIGKILL:
        return None if process.returncode == -sent else f"ended with {process.returncode}: {errors}"
    if any(
        (repository / path).with_name(f".tmp-{name}").exists() for path in STAGES[name].written().values()
    ):
        return f"left temporary outputs, ended with {process.returncode}: {errors}"
    if process.returncode == -sent and not errors:
        return None  # so early that the stage had not begun
    *others, last = errors.splitlines() or [""]  # libraries may have warned before
    if (
        process.returncode != 128 + sent
        or not last.startswith(f"error: {name}: ended by {sent.name}; ")
        or any(line.startswith(("error:", "Traceback", "Process ")) for line in others)
    ):
        return f"ended with {process.returncode}: {errors}"
    return None


def kill_three_times(repository: Path, number: int, name: str) -> list[str]:
    """What went wrong when each signal struck once, at a random moment of the stage's run time."""
    rng = np.random.default_rng([11, number])
    wrong = []
    for sent in SIGNALS:
        moment = rng.uniform(0.1, 0.9) * undisturbed_seconds(repository, name)
        after_checkpoint = name in RESUMING and sent == SIGNALS[-1]
        if after_checkpoint:
            moment = rng.uniform(0.0, 0.3)
        while fault := kill_stage(repository, name, sent, moment=moment, after_checkpoint=after_checkpoint):
            if fault != "finished":
                wrong.append(f"{name}, {sent.name} after {moment:.2f} s: {fault}")
                break
            moment /= 2
    return wrong


@pytest.mark.slow
def test_killed_at_random_moments_every_stage_ends_as_if_undisturbed(
    tiny: Path, copy_of_tiny: Copy, python_m: Run
) -> None:
    repository = copy_of_tiny()
    with ThreadPoolExecutor(2) as lanes:
        faults = lanes.map(lambda job: kill_three_times(repository, *job), enumerate(STAGES))
        assert [fault for found in faults for fault in found] == []
    resumable = [name for name in STAGES if checkpoints(repository, name)]
    assert resumable == [name for name in STAGES if name in RESUMING]

    # Neither outputs nor a cache to restore them from: all that follows is computed.
    shutil.rmtree(repository / ".dvc" / "cache")
    for output in [path for spec in STAGES.values() for path in spec.written().values()]:
        (shutil.rmtree if (repository / output).is_dir() else Path.unlink)(repository / output)
    done = python_m(repository, "dvc", "repro")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (repository / "dvc.lock").read_bytes() == (tiny / "dvc.lock").read_bytes()
    assert all(f"> python -m stages.{name}\n" in done.stdout for name in STAGES)
    went_on = [line for line in done.stderr.splitlines() if ": goes on from step " in line]
    trainings = {re.split("[:,]", line)[0] for line in went_on}  # "pose network, round 0: goes on from ..."
    assert trainings >= {"encdec", "pose network", "gan_prior", "body regressor"}
    assert any(line.startswith("cnn_") for line in went_on)  # controls
    assert list(repository.glob(".scratch/*")) == []
    assert list(repository.rglob(".tmp-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "to_group", "shell"),
    [
        (signal.SIGINT, True, "/bin/bash"),
        (signal.SIGKILL, False, "/bin/sh"),
        (signal.SIGTERM, False, "/bin/bash"),
    ],
)
def test_killed_dvc_leaves_no_process_and_an_experiment_goes_on_from_the_checkpoint(
    tiny: Path,
    copy_of_tiny: Copy,
    python_m: Run,
    monkeypatch: pytest.MonkeyPatch,
    sent: signal.Signals,
    to_group: bool,
    shell: str,
) -> None:
    """DVC takes the shell that SHELL names: bash becomes the stage, dash (/bin/sh on Debian) stays its parent."""
    monkeypatch.setenv("SHELL", shell)
    repository = copy_of_tiny()
    process = start(repository, str(repository), "dvc", "repro", "--single-item", "--force", "gan_prior")
    assert wait_for(lambda: checkpoints(repository, "gan_prior") or process.poll() is not None, 300)
    (os.killpg if to_group else os.kill)(process.pid, sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert no_process_of(str(repository))
    assert "Traceback" not in errors
    assert checkpoints(repository, "gan_prior")
    assert not (repository / "data/models/gan_prior.safetensors").exists()

    again = ("exp", "run", "--temp") if sent == signal.SIGINT else ("repro",)
    done = python_m(repository, "dvc", *again, "--single-item", "--force", "gan_prior")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "gan_prior: goes on from step " in done.stderr + done.stdout
    assert list(repository.glob(".scratch/*")) == []
    assert (repository / "dvc.lock").read_bytes() == (tiny / "dvc.lock").read_bytes()
