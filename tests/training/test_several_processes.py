"""One training in two processes that ``torchrun`` starts, beside the same in one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch
from safetensors.torch import load_file

from geobody.errors import ParamsError
from geobody.training.determinism import make_fabric
from geobody.training.shares import Shares, share_of

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-5
"""Between one process and two, where nothing is drawn and no layer mixes rows: sums are rounded in another order."""


def torchrun(folder: Path, *options: str, fails: bool = False) -> str:
    """Trains in two processes; returns what they said on standard error."""
    folder.mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    path = os.pathsep.join(str(ROOT / name) for name in ("src", ".", "tests", "tests/training"))
    done = subprocess.run(
        [sys.executable, *launcher, small_training.__file__, str(folder), *options],
        env={**os.environ, "PYTHONPATH": path, "GEOBODY_CHECKPOINT_SECONDS": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"rank_{rank}.safetensors")


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def curves(folder: Path, rank: int = 0) -> np.ndarray:
    rows = list(csv.reader((folder / f"curves_{rank}.csv").open()))
    return np.array(rows[1:], dtype=float)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    torchrun(folder)
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    torchrun(folder, "--dropout", "--norm")
    return folder


def test_two_processes_train_as_one(plain: Path, tmp_path: Path):
    small_training.train(tmp_path)
    start = dict(small_training.network(dropout=False, norm=False).state_dict())
    alone = weights(tmp_path)
    assert largest_difference(alone, start) > 0.05  # so the tolerance is small beside what was learned
    assert largest_difference(weights(plain), alone) <= TOLERANCE
    np.testing.assert_allclose(curves(plain), curves(tmp_path), rtol=1e-5)


@pytest.mark.parametrize("name", ["plain", "mixed"])
def test_all_processes_end_with_the_same_network_and_curves(request: pytest.FixtureRequest, name: str):
    folder = request.getfixturevalue(name)
    assert largest_difference(weights(folder, 0), weights(folder, 1)) == 0
    assert (folder / "curves_0.csv").read_bytes() == (folder / "curves_1.csv").read_bytes()


def test_processes_draw_their_own_dropout(mixed: Path, tmp_path: Path):
    small_training.train(tmp_path, dropout=True, norm=True)
    assert largest_difference(weights(mixed), weights(tmp_path)) > TOLERANCE


def test_the_first_process_alone_saves(mixed: Path):
    assert sorted(path.name for path in mixed.glob("scratch_0/*")) == ["net.safetensors"]
    assert not list(mixed.glob("scratch_1/*"))


def test_stopped_and_resumed_equals_undisturbed(mixed: Path, tmp_path: Path):
    """Both go on from the first one's checkpoint: the other's scratch folder need not be shared."""
    torchrun(tmp_path, "--dropout", "--norm", "--stop", "11", fails=True)
    said = torchrun(tmp_path, "--dropout", "--norm")
    assert said.count("goes on from step 11 of 20") == 1
    for file in ("rank_0.safetensors", "rank_1.safetensors", "curves_0.csv", "curves_1.csv"):
        assert (tmp_path / file).read_bytes() == (mixed / file).read_bytes(), file


class OneOf:
    """Stands in for a Fabric of several processes."""

    def __init__(self, rank: int, count: int) -> None:
        self.global_rank, self.world_size = rank, count


@pytest.mark.parametrize(("count", "batch"), [(1, 5), (2, 5), (3, 7), (4, 8)])
def test_shares_make_up_the_batch(count: int, batch: int):
    shares = [Shares(OneOf(rank, count), batch_size=batch) for rank in range(count)]  # type: ignore[arg-type]
    rows = np.arange(100, 100 + batch)
    assert np.concatenate([share.rows(rows) for share in shares]).tolist() == rows.tolist()
    assert sum(share.weight for share in shares) == pytest.approx(1)
    assert len({share.seed(7) for share in shares}) == count
    assert shares[0].seed(7) == 7
    assert sum(share_of(batch, rank=rank, count=count) for rank in range(count)) == batch


def test_a_batch_too_small_to_share_is_refused():
    with pytest.raises(ParamsError, match=r"training.processes: value 3: too many for a batch of 5"):
        Shares(OneOf(0, 3), batch_size=5)  # type: ignore[arg-type]


def test_one_process_changes_nothing():
    shares = Shares(make_fabric(precision="32-true", threads=1, device="cpu"), batch_size=1)
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1 / 3, 2 / 3])
    before = parameter.grad.clone()
    assert shares.average([parameter], [], {"total": torch.tensor(0.1)}) == {
        "total": float(torch.tensor(0.1))
    }
    assert torch.equal(parameter.grad, before)
