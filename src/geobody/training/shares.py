"""A batch shared by processes: who takes which rows, and what they tell each other after each step.

Each process computes the loss of its own rows with random numbers of its own; gradients, loss terms and the
statistics of batch norms are then averaged, weighted by rows, in one exchange. So after every step all
processes hold the same network. A loss that is a mean over rows has the gradient of the whole batch, but
for rounding; a batch norm sees its process' rows alone, and dropout and augmentation draw otherwise than
one process would. A single process does exactly what it would do without this module.

Gradients are averaged here and not by ``DistributedDataParallel``, which hooks into the ``forward`` of one
module: the losses of this project call several networks, and methods other than ``forward``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from geobody.config import LEAST_SHARE
from geobody.errors import GeobodyError, ParamsError
from geobody.training.determinism import derived_seed


class Shares:
    """This process' share of every batch of ``batch_size`` rows."""

    def __init__(self, fabric: Fabric, *, batch_size: int) -> None:
        """Raises ``ParamsError`` when a process would get fewer than ``LEAST_SHARE`` rows."""
        self.fabric, self.rank, self.count = fabric, fabric.global_rank, fabric.world_size
        if self.count > 1 and batch_size < LEAST_SHARE * self.count:
            raise ParamsError(
                f"params.yaml: training.processes: value {self.count}: too many for a batch of "
                f"{batch_size}; each needs {LEAST_SHARE} items of it"
            )
        self.weight = len(self.rows(np.arange(batch_size))) / batch_size

    def rows(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        """The process' consecutive rows of a batch."""
        return np.array_split(batch, self.count)[self.rank]

    def seed(self, seed: int) -> int:
        """A seed of the process' own; the first process' is that of a single one."""
        return derived_seed(seed, "process", self.rank) if self.rank else seed

    def average(
        self, parameters: Iterable[nn.Parameter], modules: Iterable[nn.Module], terms: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """The terms, and in place the gradients and batch norms' statistics, as means over the processes.

        Raises ``GeobodyError`` when another process has ended.
        """
        if self.count == 1:
            return {name: float(value.detach()) for name, value in terms.items()}
        tensors = [p.grad for p in parameters if p.grad is not None] + _statistics(modules)
        values = torch.stack([value.detach().float() for value in terms.values()]).to(self.fabric.device)
        flat = torch.cat([tensor.reshape(-1).float() for tensor in (*tensors, values)])
        try:
            flat = cast(Tensor, self.fabric.all_reduce(flat * self.weight, reduce_op="sum"))
        except RuntimeError as error:
            raise GeobodyError("another process of this training has ended") from error
        parts = flat.split([tensor.numel() for tensor in (*tensors, values)])
        for tensor, mean in zip(tensors, parts[:-1], strict=True):
            tensor.copy_(mean.reshape(tensor.shape))
        return dict(zip(terms, parts[-1].tolist(), strict=True))

    def spread_file(self, path: Path) -> None:
        """Gives every process the first one's file at its own ``path``; nothing when there is none."""
        if self.count == 1:
            return
        mine = path.read_bytes() if self.rank == 0 and path.exists() else None
        content = self.fabric.broadcast(mine)
        if self.rank and content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def share_of(number: int, *, rank: int, count: int) -> int:
    """How many of ``number`` items a process takes of those that ``loss_step`` draws itself; at least one."""
    return max(1, number * (rank + 1) // count - number * rank // count)


@torch.no_grad()
def _statistics(modules: Iterable[nn.Module]) -> list[Tensor]:
    norms = [norm for module in modules for norm in module.modules() if isinstance(norm, _BatchNorm)]
    found = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    return [buffer for buffer in found if buffer is not None]
