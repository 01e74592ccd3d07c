"""Another repository, cache, environment and number of cores: the same bytes, when stages run anew."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from geobody.paths import STAGES
from pipeline_types import Copy, computed
from tools.smoke import stage_environment

OTHER = {
    "HOME": "home",
    "LC_ALL": "POSIX",
    "MKL_NUM_THREADS": "3",
    "OMP_NUM_THREADS": "3",
    "OPENBLAS_NUM_THREADS": "3",
    "OPENCV_FOR_THREADS_NUM": "3",
    "PYTHONHASHSEED": "77",
    "TZ": "Asia/Kathmandu",
}
"""What a caller's environment may say; the first run has the suite's own and PYTHONHASHSEED=0."""

BACKWARDS = """
import os

_listdir, _scandir = os.listdir, os.scandir


class _Entries:
    def __init__(self, entries):
        self.entries = iter(entries)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def close(self):
        pass


def listdir(*args, **kwargs):
    return sorted(_listdir(*args, **kwargs), reverse=True)


def scandir(*args, **kwargs):
    with _scandir(*args, **kwargs) as entries:
        return _Entries(sorted(entries, key=lambda entry: entry.name, reverse=True))


os.listdir, os.scandir = listdir, scandir
"""
"""A sitecustomize for every process of the second run: folders are listed in the reverse of their names' order."""


SHORT = {
    "encdec": {"steps": 3, "warmup_steps": 1},
    "tuning": {"steps": 9, "warmup_steps": 1},
    "controls": {"steps": 3, "warmup_steps": 1},
    "gan_prior": {"steps": 20, "warmup_steps": 1},
    "smpl_regressor": {"steps": 3, "warmup_steps": 1},
    "eval": {"silhouette_instants": 2, "view_instants": 2},
    "training": {"threads": 2},
}
"""Two threads that wait for each other on one core take long over a step."""
NETWORKS = (
    "encdec",
    "pose_head",
    "embeddings",
    "controls",
    "gan_prior",
    "smpl_regressor",
)
"""Stages that train, and what they read; those that only apply networks are compared by the forced run."""


def _on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _otherwise() -> None:
    os.umask(0o077)
    _on_one_core()


@pytest.mark.slow
def test_a_forced_run_in_another_repository_gives_the_same_lock(
    tiny: Path, copy_of_tiny: Copy, tmp_path: Path
) -> None:
    """The first run was ``dvc repro`` in a fresh repository; this one is ``dvc repro -f`` over finished outputs."""
    deep = tmp_path / "a folder" / "of other depth"
    deep.mkdir(parents=True)
    repository = copy_of_tiny("forced").rename(deep / "repository")
    shutil.rmtree(repository / ".dvc/cache")
    for name in ("home", "temporary", "site", "sitecustomize"):
        (deep / name).mkdir()
    (deep / "sitecustomize" / "sitecustomize.py").write_text(BACKWARDS)
    environment = {
        **stage_environment(),
        **OTHER,
        "HOME": str(deep / "home"),
        "TMPDIR": str(deep / "temporary"),
        "DVC_SITE_CACHE_DIR": str(deep / "site"),
        "PYTHONPATH": str(deep / "sitecustomize"),
    }
    probe = [sys.executable, "-c", "import os; print(os.listdir(), len(os.sched_getaffinity(0)), hash('a'))"]
    seen = subprocess.check_output(probe, env=environment, cwd=deep, preexec_fn=_otherwise, text=True)
    assert seen.startswith("['temporary', 'sitecustomize', 'site', 'repository', 'home'] 1 ")

    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--force"],
        cwd=repository, env=environment, preexec_fn=_otherwise, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert computed(done.stdout) == set(STAGES)
    assert json.loads((repository / "logs/eval.json").read_text()) != json.loads(
        (tiny / "logs/eval.json").read_text()
    )
    different = [
        (ours, theirs)
        for ours, theirs in zip(_lines(tiny), _lines(repository), strict=True)
        if ours != theirs and "md5" in ours
    ]
    assert not different
    assert (tiny / "dvc.lock").read_bytes() == (repository / "dvc.lock").read_bytes()


@pytest.mark.slow
def test_two_threads_give_the_same_bytes_on_one_core(copy_of_tiny: Copy) -> None:
    """``training.threads`` counts, whatever the cores; the tiny profile's own count is one."""
    digests = []
    for limit in (None, _on_one_core):
        repository = copy_of_tiny("two_threads")
        yaml = YAML()
        params = yaml.load(repository / "params.yaml")
        for section, values in SHORT.items():
            params[section].update(values)
        yaml.dump(params, repository / "params.yaml")
        written = [repository / path for name in NETWORKS for path in STAGES[name].written().values()]
        for path in written:
            (shutil.rmtree if path.is_dir() else Path.unlink)(path)
        for name in NETWORKS:
            done = subprocess.run(
                [sys.executable, "-m", f"stages.{name}"],
                cwd=repository, env=stage_environment(), preexec_fn=limit, capture_output=True, text=True,
            )  # fmt: skip
            assert done.returncode == 0, f"{name}: {done.stderr[-2000:]}"
        files = [file for path in written for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]


def _lines(repository: Path) -> list[str]:
    return (repository / "dvc.lock").read_text().splitlines()
