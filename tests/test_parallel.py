import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dask_cluster import dask_cluster
from geobody import cluster
from geobody.errors import DataError, GeobodyError, ParamsError
from geobody.parallel import in_parallel

ROOT = Path(__file__).parents[1]


def square(number: int) -> int:
    if number == 13:
        raise DataError(f"{number}.jpg", "is unlucky", "take another")
    if number == 14:
        raise ParamsError("params.yaml: x.y: 14 is wrong")
    return number * number


def whereabouts(_: int) -> tuple[int, str, str]:
    return os.getpid(), str(Path.cwd()), os.environ["OMP_NUM_THREADS"]


def late(task: tuple[float, str]) -> None:
    seconds, file = task
    time.sleep(seconds)
    Path(file).touch()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with dask_cluster(ROOT, tmp_path_factory.mktemp("cluster")) as address:
        yield address


@pytest.fixture(params=["one process", "two processes", "Dask"])
def jobs(request, monkeypatch):
    if request.param == "Dask":
        monkeypatch.setenv(cluster.ADDRESS, request.getfixturevalue("scheduler"))
    return 1 if request.param == "one process" else 2


def test_results_come_in_order(jobs):
    found = list(in_parallel(square, range(10), total=10, desc="squares", jobs=jobs))
    assert found == [number * number for number in range(10)]


@pytest.mark.parametrize(("number", "kind"), [(13, DataError), (14, ParamsError)])
def test_an_error_in_a_worker_is_the_users_error(jobs, number, kind):
    with pytest.raises(kind) as caught:
        list(in_parallel(square, [1, 2, number, 3], total=4, desc="squares", jobs=jobs))
    with pytest.raises(kind) as expected:
        square(number)
    assert str(caught.value) == str(expected.value)
    assert caught.value.exit_code == expected.value.exit_code
    assert vars(caught.value) == vars(expected.value)


def test_fewer_results_than_tasks_are_an_error(jobs):
    with pytest.raises(GeobodyError, match="squares: 2 of 3 results"):
        list(in_parallel(square, [1, 2], total=3, desc="squares", jobs=jobs))


def test_a_moment_without_workers_loses_no_task(scheduler, monkeypatch):
    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    from distributed import Client

    found = in_parallel(square, range(10), total=10, desc="squares")
    first = next(found)
    monkeypatch.setattr(Client, "nthreads", lambda self: {})  # what is said when all have just been lost
    assert [first, *found] == [number * number for number in range(10)]


def test_no_run_begins_beside_what_an_ended_one_left(scheduler, tmp_path, monkeypatch):
    """A task that runs cannot be cancelled: the next run waits for it, or refuses in one line."""
    from distributed import Client

    def leave(seconds: float) -> Path:
        file = tmp_path / f"late_{seconds}"
        with Client(scheduler, set_as_default=False) as client:
            left = client.submit(late, (seconds, str(file)), pure=False)
            while not any(client.processing().values()):
                time.sleep(0.05)
            time.sleep(0.5)  # until the worker has begun
            del left
        return file

    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    file = leave(4)
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "TIMEOUT_S", 1)
        with pytest.raises(
            DataError, match=r"of a stage that was ended still run there \(1\); wait"
        ) as caught:
            list(in_parallel(square, [1], total=1, desc="squares"))
    assert "\n" not in str(caught.value)
    assert not file.exists()
    assert list(in_parallel(square, [2], total=1, desc="squares")) == [4]
    assert file.exists()


def test_a_cluster_works_in_the_callers_folder_with_one_thread(scheduler, tmp_path, monkeypatch):
    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    monkeypatch.setattr(cluster, "TASKS_PER_WORKER", 2)  # so that 9 tasks are three batches
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found = list(in_parallel(whereabouts, range(9), total=9, desc="whereabouts"))
        assert os.getpid() not in {pid for pid, _, _ in found}
        assert {(folder, threads) for _, folder, threads in found} == {(str(tmp_path / name), "1")}


def test_a_single_worker_does_the_work(tmp_path, monkeypatch):
    """Not the caller's own process, which need not compute with one thread."""
    with dask_cluster(ROOT, tmp_path, workers=1) as address:
        monkeypatch.setenv(cluster.ADDRESS, address)
        found = list(in_parallel(whereabouts, range(3), total=3, desc="whereabouts"))
    pids = {pid for pid, _, _ in found}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_a_worker_of_other_code_or_packages_refuses(scheduler, monkeypatch):
    monkeypatch.setenv(cluster.ADDRESS, scheduler)
    for name, value in (("code_digest", "0123"), ("package_versions", ("numpy 0.1",))):
        with monkeypatch.context() as patch:
            patch.setattr(cluster, name, lambda value=value: value)
            with pytest.raises(DataError, match=r"imported other code|not numpy 0\.1"):
                list(in_parallel(square, [1], total=1, desc="squares"))


@pytest.mark.parametrize(
    ("workers", "threads", "said"), [(1, 2, "runs 2 tasks at once"), (0, 1, "no worker")]
)
def test_a_cluster_that_cannot_serve_is_one_line(tmp_path, monkeypatch, workers, threads, said):
    monkeypatch.setattr(cluster, "TIMEOUT_S", 20 if workers else 1)
    with dask_cluster(ROOT, tmp_path, workers=workers, threads=threads) as address:
        monkeypatch.setenv(cluster.ADDRESS, address)
        with pytest.raises(DataError, match=said) as caught:
            list(in_parallel(square, [1], total=1, desc="squares"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("tcp://127.0.0.1:9", DataError, "GEOBODY_DASK=tcp://127.0.0.1:9: no scheduler answers within 1 s; "),
        ("nowhere", ParamsError, "GEOBODY_DASK: value 'nowhere': an address as in tcp://"),
    ],
)
def test_nobody_at_the_address_is_one_line(monkeypatch, address, kind, said):
    monkeypatch.setenv(cluster.ADDRESS, address)
    monkeypatch.setattr(cluster, "TIMEOUT_S", 1)
    with pytest.raises(kind) as caught:
        list(in_parallel(square, [1], total=1, desc="squares"))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv(cluster.ADDRESS, "tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(GeobodyError, match=r"geobody\[cluster\]") as caught:
        list(in_parallel(square, [1], total=1, desc="squares"))
    assert caught.value.exit_code == 2


THREAD_FAILS = """
import sys
import threading
from types import SimpleNamespace

import geobody.parallel


class Manager(threading.Thread):
    executor_flags = SimpleNamespace(kill_workers=sys.argv[1] == "killed")

    def run(self):
        raise KeyError(9)


manager = Manager()
manager.start()
manager.join()
"""


@pytest.mark.parametrize(("told", "says"), [("killed", False), ("working", True)])
def test_only_of_killed_workers_a_task_may_be_missing_without_a_word(told: str, says: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREAD_FAILS, told], capture_output=True, text=True, timeout=60, check=True
    )
    assert ("KeyError: 9" in done.stderr) == says
    assert bool(done.stderr) == says
