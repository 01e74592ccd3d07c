from functools import lru_cache
from pathlib import Path

import pytest

from geobody import cluster
from geobody.cluster import ONE_THREAD, Place
from geobody.data import posed_bodies
from geobody.dependencies import stage_packages
from geobody.errors import DataError
from geobody.paths import STAGES


@pytest.fixture
def one_thread(monkeypatch):
    for name in ONE_THREAD:
        monkeypatch.setenv(name, "1")


def test_a_place_is_taken_by_its_own_process(one_thread, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Place.here()
    monkeypatch.chdir("/")
    here.take()
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("name", ONE_THREAD)
def test_a_worker_that_may_use_several_threads_refuses(one_thread, monkeypatch, name):
    monkeypatch.delenv(name)
    with pytest.raises(DataError, match=f"set {name}=1"):
        Place.here().take()


def test_a_folder_that_is_not_shared_is_named(one_thread, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    here = Place.here()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").rmdir()
    with pytest.raises(DataError, match=r"cannot enter .*mine; .*all machines share"):
        here.take()


def test_a_new_run_forgets_what_files_of_the_last_one_held(one_thread, monkeypatch, tmp_path):
    """A worker outlives a stage: the body that it read under a relative name may be another by now."""
    monkeypatch.chdir(tmp_path)
    read = []
    monkeypatch.setattr(posed_bodies, "load_body", lru_cache(lambda name: read.append(name)))
    first, second = Place.here(), Place.here()
    for place, times in ((first, 1), (first, 1), (second, 2)):
        place.take()
        posed_bodies.load_body("data/body.npz")
        assert len(read) == times


def test_every_package_that_can_move_a_result_is_compared():
    compared = {line.split()[0] for line in cluster.package_versions()}
    assert compared == {"python"}.union(*(stage_packages(name) for name in STAGES))


def test_the_digest_changes_with_any_module(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    for name in ("cluster.py", "data/crops.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(cluster, "__file__", str(tmp_path / "cluster.py"))
    digest = cluster.code_digest.__wrapped__
    before = digest()
    assert digest() == before
    (tmp_path / "data/crops.py").write_text("x = 2\n")
    assert digest() != before
