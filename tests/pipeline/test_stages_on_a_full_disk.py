"""Every stage on a disk without room: one line that names the place, and the last good state."""

import hashlib
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from geobody.paths import STAGES
from tools.smoke import stage_environment

FREE_BYTES = 32 * 1024
"""Room for a lock and a first small file, for no stage's outputs."""

WORKING_TREE = (
    "src",
    "stages",
    "data",
    "metrics",
    "params.yaml",
    "versions.yaml",
    "pyproject.toml",
    "requirements.lock",
)


def lay_out(tiny: Path, target: Path) -> Path:
    for name in WORKING_TREE:
        if (tiny / name).exists():
            subprocess.run(["cp", "--archive", str(tiny / name), str(target)], check=True)
    return target


@pytest.fixture(scope="module")
def full_tmpfs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny working tree on a tmpfs that has ``FREE_BYTES`` left."""
    place = tmp_path_factory.mktemp("tmpfs")
    size = sum(
        file.stat().st_size + 4096
        for name in WORKING_TREE
        for file in [tiny / name, *(tiny / name).rglob("*")]
        if file.is_file()
    )
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size + (16 << 20)}", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(
            f"no tmpfs can be mounted here ({mounted.stderr.decode().strip()}); file sizes are limited instead"
        )
    try:
        lay_out(tiny, place)
        with (place / "ballast").open("wb") as ballast:
            free = shutil.disk_usage(place).free - FREE_BYTES
            os.posix_fallocate(ballast.fileno(), 0, free)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def state(repository: Path) -> dict[str, str]:
    """Hashes of everything that stages write."""
    return {
        str(file.relative_to(repository)): hashlib.sha256(file.read_bytes()).hexdigest()
        for top in ("data", "metrics")
        for file in sorted((repository / top).rglob("*"))
        if file.is_file()
    }


def fault_of(repository: Path, name: str, limit: Callable[[], None] | None = None) -> str | None:
    """What is wrong with how the stage ended, or None."""
    environment = {**stage_environment(), "GEOBODY_CHECKPOINT_SECONDS": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=repository, env=environment, preexec_fn=limit, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    *others, last = done.stderr.splitlines() or [
        ""
    ]  # libraries may have warned before, and progress is shown
    told = last.startswith("error: ") and ": no space left on the device; " in last
    if done.returncode == 3 and told and not any(line.startswith(("error:", "Traceback")) for line in others):
        return None
    return f"{name} ended with {done.returncode}: {done.stderr}"


@pytest.mark.slow
def test_on_a_full_tmpfs_every_stage_ends_in_one_line_and_leaves_the_last_good_state(
    full_tmpfs: Path,
) -> None:
    before = state(full_tmpfs)
    with ThreadPoolExecutor(2) as lanes:  # body first: it takes longest
        assert [fault for fault in lanes.map(partial(fault_of, full_tmpfs), STAGES) if fault] == []
    assert state(full_tmpfs) == before
    assert list(full_tmpfs.rglob(".tmp-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "crops", "pose_head", "controls"])
def test_with_limited_file_sizes_a_stage_ends_in_the_same_line(tiny: Path, tmp_path: Path, name: str) -> None:
    """Where nobody may mount a disk: files of more than 32 KiB are refused, as a disk quota would."""
    repository = lay_out(tiny, tmp_path)
    before = state(repository)
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (FREE_BYTES, FREE_BYTES))
    assert fault_of(repository, name, limit) is None
    assert state(repository) == before
    assert list(repository.rglob(".tmp-*")) == []
