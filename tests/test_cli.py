"""The command `geobody` as users call it: exit codes, one line for an error, what it prints."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from scipy.io import savemat

from capsule_body import write_capsule_body
from geobody import cli
from geobody.scratch import locked
from h36m_tree import Tree, write_tree

ROOT = Path(__file__).resolve().parents[1]
S1 = "s_01_act_02_subact_01_ca_01"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return write_tree(tmp_path, frames=2, cameras=(1, 2))


def geobody(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geobody", *map(str, arguments)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True,
    )  # fmt: skip


def params(folder: Path, **dataset: object) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["dataset"] |= dataset
    values["body"]["model"], values["prior"]["root"] = str(folder / "body.npz"), str(folder / "surreal")
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def test_the_script_of_the_package_is_this_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"geobody": "geobody.cli:main"}
    assert callable(cli.main)


def test_help_names_every_subcommand(tmp_path: Path) -> None:
    done = geobody(tmp_path, "--help")
    assert done.returncode == 0
    for name in cli.COMMANDS:
        assert name in done.stdout


def test_no_subcommand_imports_torch_before_it_needs_it(tmp_path: Path) -> None:
    program = "import sys, geobody.cli; print(json.dumps([m for m in ('torch', 'cv2', 'pyarrow') if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {program}"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == []


def test_manifest_writes_resumes_and_verifies(tree: Tree, tmp_path: Path) -> None:
    tree.manifest.unlink()
    done = geobody(tmp_path, "manifest", tree.root)
    files = 7 * 2 * (2 + 2 + 1)
    assert (done.returncode, done.stdout) == (
        0,
        f"{tree.manifest}: {files} files, of which {files} were hashed now\n",
    )
    assert geobody(tmp_path, "manifest", tree.root).stdout.endswith("of which 0 were hashed now\n")
    assert geobody(tmp_path, "manifest", tree.root, "--verify").returncode == 0
    before = tree.manifest.read_bytes()
    (tree.images / S1 / f"{S1}_000001.jpg").write_bytes(b"other")
    done = geobody(tmp_path, "manifest", tree.root, "--verify")
    assert done.returncode == 3
    assert done.stdout.startswith(f"images/{S1}/{S1}_000001.jpg: has 5 bytes, not ")
    assert done.stderr == (
        f"error: {tree.manifest}: 1 files differ from it; restore them, or write the manifest anew "
        "with geobody manifest\n"
    )
    assert tree.manifest.read_bytes() == before


def test_one_run_at_a_time_writes_the_manifest(tree: Tree, tmp_path: Path) -> None:
    before = tree.manifest.read_bytes()
    lock = tree.root / ".manifest.lock"
    with locked(lock, "is at it"):
        done = geobody(tmp_path, "manifest", tree.root)
        assert (done.returncode, done.stdout) == (3, "")
        said = f"process {os.getpid()} is writing the manifest; wait until it has ended, or end it, and run again"
        assert done.stderr == f"error: {lock}: {said}\n"
        assert tree.manifest.read_bytes() == before
    assert geobody(tmp_path, "manifest", tree.root).returncode == 0
    assert not lock.exists()


def test_without_an_argument_the_places_of_the_params_are_looked_at(tree: Tree, tmp_path: Path) -> None:
    params(tmp_path, root=str(tree.root), cameras=[1, 2])
    write_capsule_body(tmp_path / "body.npz")
    for split in ("train", "val"):
        folder = tmp_path / "surreal/cmu" / split / "run0/01_01"
        folder.mkdir(parents=True)
        savemat(folder / "01_01_c0001_info.mat", {"pose": [[0.1]] * 72, "shape": [[0.2]] * 10})
    done = geobody(tmp_path, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42 files, 14 sequences are used" in done.stdout  # two images and a .mat in each
    assert "train  1 poses of 1 sequences" in done.stdout
    assert "vertices" in done.stdout
    (tmp_path / "body.npz").unlink()
    done = geobody(tmp_path, "check")
    assert done.returncode == 3
    assert f"FAULT: {tmp_path}/body.npz: " in done.stdout
    assert done.stderr == f"error: {tree.root}: 1 fault would stop the pipeline; mend what is said above\n"


def test_with_an_argument_no_params_are_needed(tree: Tree, tmp_path: Path) -> None:
    done = geobody(tmp_path, "check", tree.root)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["frob"], 2, "invalid choice: 'frob'"),
        ([], 2, "COMMAND"),
        (["manifest", "--verfy"], 2, "--verfy"),
        (["check", "nowhere"], 3, "nowhere: is no folder"),
        (["manifest", "nowhere"], 3, "nowhere: is no folder"),
        (["manifest", "nowhere", "--verify"], 3, "nowhere/manifest.parquet: there is no such manifest"),
        (["manifest"], 3, "params.yaml: is missing"),
        (["manifest", "linked"], 3, "lost.jpg: cannot be read or written (No such file or directory)"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "linked/images").mkdir(parents=True)
    (tmp_path / "linked/images/lost.jpg").symlink_to("/nowhere/at/all.jpg")
    done = geobody(tmp_path, *arguments)
    assert done.returncode == code
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "linked/manifest.parquet").exists()
