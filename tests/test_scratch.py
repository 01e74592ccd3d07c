"""Scratch folders: their place, their name, their lock."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from geobody import scratch
from geobody.errors import DataError
from geobody.scratch import Lock, Scratch, fingerprint, locked, scratch_root

ROOT = Path(__file__).resolve().parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from geobody.scratch import Lock
lock = Lock(Path(sys.argv[1]), "is at it")
print("held", flush=True)
time.sleep(60)
"""


def hold(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize(
    ("folder", "root"),
    [
        ("/home/me/geobody", "/home/me/geobody/.scratch"),
        ("/home/me/geobody/.dvc/tmp/exps/tmpa1b2", "/home/me/geobody/.scratch"),
        ("/home/me/geobody/.dvc/tmp/exps/standalone/tmpa1b2", "/home/me/geobody/.scratch"),
        ("/home/me/.dvc/geobody/tmp/exps", "/home/me/.dvc/geobody/tmp/exps/.scratch"),
    ],
)
def test_temporary_experiments_share_the_scratch_of_their_repository(folder: str, root: str) -> None:
    assert scratch_root(Path(folder)) == Path(root)


def test_the_name_holds_params_inputs_their_names_code_and_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = tmp_path / "crops"
    crops.mkdir()
    (crops / "a.npy").write_bytes(b"a")
    (crops / "b.npy").write_bytes(b"b")
    names = [fingerprint("encdec", {"lr": 1}, {"crops": crops})]
    assert fingerprint("encdec", {"lr": 1}, {"crops": crops}) == names[0]

    def note(params: dict[str, int] | None = None, name: str = "encdec") -> None:
        names.append(fingerprint(name, params or {"lr": 1}, {"crops": crops}))

    note({"lr": 2})
    note(name="embeddings")  # other code
    (crops / "b.npy").rename(crops / "c.npy")
    note()
    (crops / "c.npy").write_bytes(b"c")
    note()
    monkeypatch.setattr(metadata, "version", lambda package: "99.0")
    note()
    page = tmp_path / "stages/encdec.py"
    page.parent.mkdir()
    page.write_text("changed")
    monkeypatch.setattr(scratch, "stage_modules", lambda name: [page.relative_to(tmp_path)])
    monkeypatch.setattr(scratch, "ROOT", tmp_path)
    note()
    assert len(set(names)) == len(names)


def test_a_twin_is_told_who_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "PATIENCE_SECONDS", 0.2)
    path = tmp_path / "work/lock"
    holder = hold(path)
    try:
        with pytest.raises(DataError) as error:
            Scratch(path.parent)
        assert str(error.value) == (
            f"{path}: process {holder.pid} is at the same work; wait until it has ended, or end it, and run again"
        )
    finally:
        holder.kill()
        holder.communicate()
    Scratch(path.parent).close(keep=False)  # killed, it holds nothing any more
    assert not path.parent.exists()


def test_a_lock_that_is_let_go_within_a_moment_is_waited_for(tmp_path: Path) -> None:
    holder = hold(tmp_path / "lock")
    subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {holder.pid}"])
    with locked(tmp_path / "lock", "is at it"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    holder.communicate()
    assert not (tmp_path / "lock").exists()


def test_a_lock_on_a_file_that_its_holder_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin opened the file, then the holder removed it and let go: two might else hold two files."""
    path = tmp_path / "lock"
    first = Lock(path, "is at it")
    flock = scratch.fcntl.flock

    def meanwhile(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(scratch.fcntl, "flock", flock)
        first.release()
        flock(descriptor, operation)

    monkeypatch.setattr(scratch.fcntl, "flock", meanwhile)
    second = Lock(path, "is at it")
    assert path.exists()
    second.release()


def test_what_was_saved_stays_and_what_was_torn_goes(tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = Scratch(work)
    (work / "net").mkdir()
    (work / "net/net.safetensors").write_text("step 7")
    (work / "net/.tmp-net.safetensors").write_text("half of step 8")
    assert first.close(keep=True)
    again = Scratch(work)
    assert [path.name for path in work.rglob("*net*")] == ["net", "net.safetensors"]
    assert not again.close(keep=False)
    assert not work.exists()


def test_nothing_saved_leaves_nothing(tmp_path: Path) -> None:
    first = Scratch(tmp_path / "work")
    (tmp_path / "work/net").mkdir()
    assert not first.close(keep=True)
