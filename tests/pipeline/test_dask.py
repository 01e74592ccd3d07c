"""The data stages on two workers of a Dask cluster write the bytes that this machine's processes write."""

import hashlib
from pathlib import Path

import pytest

from dask_cluster import dask_cluster
from geobody.paths import STAGES
from pipeline_types import Copy, Run

pytestmark = pytest.mark.slow

SPREAD = ("synth", "backgrounds", "crops")


def digests(repository: Path) -> dict[str, str]:
    """Digest of every file that the spread stages write, metrics and figures included."""
    found = {}
    for stage in SPREAD:
        for output in STAGES[stage].written().values():
            path = repository / output
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    name = str(file.relative_to(repository))
                    found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def test_two_dask_workers_give_the_same_bytes(copy_of_tiny: Copy, python_m: Run, tmp_path: Path):
    repository = copy_of_tiny()
    before = digests(repository)
    assert len(before) > 1000
    lost = python_m(repository, "stages.crops", GEOBODY_DASK="nowhere")
    assert (lost.returncode, lost.stderr.count("\n")) == (2, 1), lost.stderr  # so the variable is heeded
    with dask_cluster(repository, tmp_path) as address:
        for stage in SPREAD:
            done = python_m(repository, f"stages.{stage}", GEOBODY_DASK=address)
            assert done.returncode == 0, done.stderr
        assert digests(repository) == before
        log = (tmp_path / "dask.log").read_text()
        assert log.count("Registered to") == 2, log
