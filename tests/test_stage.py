"""The contract of a stage: whole outputs or none, one line for an error, its exit code, its log."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from geobody import stage as stage_module
from geobody.config import load_params
from geobody.errors import DataError, ParamsError
from geobody.paths import STAGES
from geobody.stage import Job, run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository with params and an index, in which the stage ``crops`` can be played."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    for name in ("data/index", "data/backgrounds"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data/synthetic").mkdir()
    (tmp_path / "data/synthetic/manifest.parquet").write_bytes(b"manifest")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stages.crops"])
    return tmp_path


def write_all(job: Job) -> str:
    job.outputs["crops"].mkdir()
    (job.outputs["crops"] / "images.npy").write_bytes(b"new")
    job.outputs["metrics"].write_text("{}")
    job.outputs["figure"].write_bytes(b"png")
    return "3 files"


def test_outputs_stand_at_their_names_when_main_returns(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("crops", write_all)
    assert (workplace / "data/crops/images.npy").read_bytes() == b"new"
    assert (workplace / "metrics/crops.json").read_text() == "{}"
    assert capsys.readouterr().out == "crops: 3 files\n"
    assert not list(workplace.rglob(".tmp-*"))
    assert json.loads((workplace / "logs/crops.json").read_text())["minutes"] >= 0


def test_a_second_run_replaces_a_folder_as_a_whole(workplace: Path) -> None:
    (workplace / "data/crops").mkdir()
    (workplace / "data/crops/stale.npy").write_bytes(b"old")
    run("crops", write_all)
    assert sorted(path.name for path in (workplace / "data/crops").iterdir()) == ["images.npy"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            DataError("a.jpg", "is cut short", "copy it again"),
            3,
            "error: a.jpg: is cut short; copy it again\n",
        ),
        (
            ParamsError("params.yaml: crops.size_px: too small"),
            2,
            "error: params.yaml: crops.size_px: too small\n",
        ),
        (OSError(errno.ENOSPC, "full", "data/x.npy"), 3, "error: data/x.npy: no space left on the device"),
    ],
)
def test_an_error_is_one_line_and_leaves_the_last_good_state(
    workplace: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int, said: str
) -> None:
    run("crops", write_all)

    def fail_half_way(job: Job) -> str:
        job.outputs["crops"].mkdir()
        (job.outputs["crops"] / "images.npy").write_bytes(b"half")
        raise error

    with pytest.raises(SystemExit) as exit_:
        run("crops", fail_half_way)
    assert exit_.value.code == code
    message = capsys.readouterr().err
    assert message.startswith(said)
    assert message.count("\n") == 1
    assert (workplace / "data/crops/images.npy").read_bytes() == b"new"
    assert not list(workplace.rglob(".tmp-*"))


def test_a_missing_input_says_which_stage_makes_it(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "data/index").rmdir()
    with pytest.raises(SystemExit) as exit_:
        run("crops", write_all)
    assert exit_.value.code == 3
    assert capsys.readouterr().err == "error: data/index: is missing; make it with: dvc repro index\n"


def test_a_missing_input_whose_stage_is_left_out_is_for_the_user_to_put_there(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = (workplace / "params.yaml").read_text()
    (workplace / "data/synthetic/manifest.parquet").unlink()
    for text, cure in (
        (params, "make it with: dvc repro synth"),
        (params.replace("generate: [embedded]", "generate: []"),
         "put it there, or mend its path in params.yaml"),
    ):  # fmt: skip
        (workplace / "params.yaml").write_text(text)
        with pytest.raises(SystemExit) as exit_:
            run("crops", write_all)
        assert exit_.value.code == 3
        assert capsys.readouterr().err == f"error: data/synthetic/manifest.parquet: is missing; {cure}\n"


PROGRAM = """
import sys

from geobody.stage import run


def main(job):
    if WORKERS:
        from geobody.parallel import in_parallel
        blocks = list(in_parallel(bytes, [50_000_000] * 2, total=2, desc="blocks", jobs=2))
        assert [len(block) for block in blocks] == [50_000_000] * 2
    job.outputs["crops"].mkdir()
    for name in ("metrics", "figure"):
        job.outputs[name].write_bytes(b"{}")
    return "done"


run("crops", main)
assert WORKERS or "joblib" not in sys.modules
"""


@pytest.mark.parametrize("workers", [True, False])
def test_the_log_has_the_peak_of_workers_and_a_stage_without_them_imports_nothing_for_it(
    workplace: Path, workers: bool
) -> None:
    program = PROGRAM.replace("WORKERS", str(workers))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=workplace, env=environment, check=True, timeout=120)
    record = json.loads((workplace / "logs/crops.json").read_text())
    assert record["peak_memory_gb"] > 0
    assert (record["peak_memory_of_largest_worker_gb"] > 0.05) == workers


BROKEN_OFF = """
import time

from geobody.errors import DataError
from geobody.parallel import in_parallel
from geobody.stage import run


def main(job):
    for _ in in_parallel(time.sleep, [0, 600, 600], total=3, desc="naps", jobs=2):
        raise DataError("a.npy", "is cut short", "copy it again")


run("crops", main)
"""


SEMAPHORE_GONE = """
from joblib.externals.loky.backend import resource_tracker

from geobody.errors import DataError
from geobody.stage import run


def main(job):
    resource_tracker.register("/gone", "semlock")  # as a worker leaves one that is killed between two of its lines
    raise DataError("a.npy", "is cut short", "copy it again")


run("crops", main)
"""


@pytest.mark.parametrize("others", ["", "error:careless:DeprecationWarning"])
def test_joblibs_tracker_says_nothing_after_the_line(workplace: Path, others: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": others}
    done = subprocess.run(
        [sys.executable, "-c", SEMAPHORE_GONE], cwd=workplace, env=environment, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, "error: a.npy: is cut short; copy it again\n")


INTERRUPTED = """
import os
import signal
import time

from geobody.parallel import in_parallel
from geobody.stage import run


def naps():
    yield 0
    yield 600
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(20):
        yield 600


def main(job):
    for _ in in_parallel(time.sleep, naps(), total=22, desc="naps", jobs=2):
        pass


run("crops", main)
"""


@pytest.mark.parametrize(
    ("stage", "code", "said"),
    [
        (BROKEN_OFF, 3, "error: a.npy: is cut short; copy it again\n"),
        (INTERRUPTED, 128 + signal.SIGINT, "error: crops: ended by SIGINT; dvc repro begins it anew\n"),
    ],
    ids=["error", "signal"],
)
def test_what_ends_a_stage_while_workers_are_busy_is_the_only_line(
    workplace: Path, stage: str, code: int, said: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", stage],
        cwd=workplace, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, said)


SHARED = """
import os
import time
from pathlib import Path

from geobody.errors import DataError
from geobody.stage import run


def main(job):
    rank = os.environ["RANK"]
    (job.scratch / "checkpoint").parent.mkdir(exist_ok=True)
    (job.scratch / "checkpoint").write_text("step 7")
    Path(f"at_work_{rank}").touch()
    if os.environ.get("FAILS") == rank:
        raise DataError("a.npy", "is cut short", "copy it again")
    time.sleep(600)


run("pose_head", main, spreads=True)
"""


def shared_stage(workplace: Path, **variables: str) -> subprocess.Popen[str]:
    """The stage ``pose_head``, which two processes share, with a page of its own."""
    text = (workplace / "params.yaml").read_text()
    (workplace / "params.yaml").write_text(text.replace("processes: 1", "processes: 2"))
    for template in STAGES["pose_head"].inputs.values():
        path = stage_module.resolve(template, load_params(workplace / "params.yaml"))
        (workplace / path).mkdir(parents=True, exist_ok=True)
    (workplace / "stages").mkdir()
    (workplace / "stages/pose_head.py").write_text(SHARED)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GEOBODY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.pose_head"],
        cwd=workplace, env={**kept, "PYTHONPATH": f".{os.pathsep}{ROOT / 'src'}", **variables},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_shared_stage_is_one_line_of_the_first_process(
    workplace: Path, number: signal.Signals
) -> None:
    stage = shared_stage(workplace)
    patience = time.monotonic() + 60
    while len(list(workplace.glob("at_work_*"))) < 2:
        assert time.monotonic() < patience
        time.sleep(0.1)
    stage.send_signal(number)
    _, said = stage.communicate(timeout=60)
    assert stage.returncode == 128 + number
    assert said == "error: pose_head: ended by SIGTERM; dvc repro goes on from its last checkpoint\n"
    assert not list(workplace.glob(".scratch/*.exit"))


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_error_in_one_process_of_a_shared_stage_is_the_only_line(workplace: Path, rank: str) -> None:
    stage = shared_stage(workplace, FAILS=rank)
    _, said = stage.communicate(timeout=60)
    assert (stage.returncode, said) == (3, "error: a.npy: is cut short; copy it again\n")


def test_a_full_disk_under_a_helping_process_is_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stage_module, "end_with_dvc", lambda end: None)
    text = (workplace / "params.yaml").read_text()
    (workplace / "params.yaml").write_text(text.replace("processes: 1", "processes: 2"))

    def fill(job: Job) -> str:
        raise OSError(errno.ENOSPC, "full", str(job.outputs["metrics"]))

    with pytest.raises(SystemExit) as exit_:
        run("crops", fill, spreads=True)
    assert exit_.value.code == 3
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "metrics/crops.json: no space left on the device" in message


def test_an_output_that_main_forgot_is_a_fault_of_the_program(workplace: Path) -> None:
    with pytest.raises(RuntimeError, match="did not write its output 'crops'"):
        run("crops", lambda job: "nothing")


@pytest.mark.parametrize("change", ["params", "input"])
def test_scratch_is_found_again_by_the_same_work_alone(workplace: Path, change: str) -> None:
    seen: list[Path] = []

    def interrupted(job: Job) -> str:
        seen.append(job.scratch)
        (job.scratch / "checkpoint").write_text("step 7")
        raise KeyboardInterrupt

    def start(main: Callable[[Job], str]) -> None:
        with pytest.raises(KeyboardInterrupt):
            run("crops", main)

    start(interrupted)
    start(interrupted)
    assert seen[0] == seen[1]
    if change == "params":
        text = (workplace / "params.yaml").read_text()
        (workplace / "params.yaml").write_text(text.replace("stride: 1", "stride: 2", 1))
    else:
        (workplace / "data/index/images.parquet").write_bytes(b"other rows")
    start(interrupted)
    assert seen[2] != seen[0]

    def finishes(job: Job) -> str:
        assert (job.scratch / "checkpoint").read_text() == "step 7"
        return write_all(job)

    run("crops", finishes)
    assert not seen[2].exists()


WITHOUT_TORCH = """
import runpy
import sys

sys.modules["torch"] = None  # whoever imports it gets an ImportError
runpy.run_module("stages." + sys.argv.pop(), run_name="__main__")
"""


def run_without_torch(workplace: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, name],
        cwd=workplace, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_imports_torch_before_it_knows_that_it_will_work(tmp_path: Path, name: str) -> None:
    """Bad params, then each input that is missing: said before torch is asked for."""
    params = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(params + "nonsense:\n  key: 1\n")
    done = run_without_torch(tmp_path, name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: params.yaml: nonsense")

    (tmp_path / "params.yaml").write_text(params)
    for template in STAGES[name].inputs.values():
        path = stage_module.resolve(template, load_params(ROOT / "params.yaml"))
        done = run_without_torch(tmp_path, name)
        assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
        assert done.stderr.startswith(f"error: {path}: is missing; ")
        (tmp_path / path).mkdir(parents=True)


def test_help_prints_params_inputs_and_outputs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stages.crops", "--help"])
    with pytest.raises(SystemExit) as exit_:
        run("crops", write_all)
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for word in ("params.yaml: dataset, crops", "data/backgrounds", "data/crops", "metrics/crops.json"):
        assert word in text


def test_no_stage_is_named_that_does_not_exist() -> None:
    pages = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert pages == set(stage_module.STAGES)
