"""The one training loop: every network of the project is fitted by ``fit``.

What a step draws (rows, augmentation, dropout) is a pure function of (seed, step), and a checkpoint
holds all that a step leaves behind, so a training that was killed ends with the same bytes as one
that was not.
"""

import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from geobody.errors import GeobodyError
from geobody.progress import progress
from geobody.training.checkpoint import Checkpoints, TrainingState
from geobody.training.curves import CurveWriter
from geobody.training.determinism import derived_seed
from geobody.training.schedule import Schedule
from geobody.training.shares import Shares, share_of

TOTAL = "total"

SAVE_SECONDS = "GEOBODY_CHECKPOINT_SECONDS"
"""Environment variable: seconds between two checkpoints; 0 saves after each step."""
SAVE_SECONDS_DEFAULT = 30.0


class RowSampler:
    """Batches of row ids, in epochs that are permutations: a batch depends on (seed, step, size) alone.

    A batch may run over the end of an epoch into the next, so every batch is full.
    """

    def __init__(self, rows: NDArray[np.int64], seed: int) -> None:
        if len(rows) == 0:
            raise GeobodyError("there are no rows to train on")
        self.rows = np.asarray(rows, dtype=np.int64)
        self.seed = seed
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int, *, size: int) -> NDArray[np.int64]:
        """Returns the (size,) rows of ``step`` when every step takes ``size``."""
        places = np.arange(step * size, (step + 1) * size)
        epochs, offsets = np.divmod(places, len(self.rows))
        order = {int(epoch): self._permutation(int(epoch)) for epoch in np.unique(epochs)}
        self._epochs = order
        return np.array([order[int(e)][o] for e, o in zip(epochs, offsets, strict=True)], dtype=np.int64)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch in self._epochs:
            return self._epochs[epoch]
        return np.random.default_rng([self.seed, epoch]).permutation(self.rows)


@dataclass(frozen=True)
class Batch:
    """What one call of ``loss_step`` may depend on.

    ``rows`` are this process' share of the step's. ``generator`` lives on the CPU and is seeded from (seed,
    step, group) and, but for the first process, the rank; torch's global generator is seeded likewise for
    layers such as dropout.
    """

    rows: NDArray[np.int64]
    step: int
    group: str
    generator: torch.Generator
    rank: int = 0
    processes: int = 1

    def share_of(self, number: int) -> int:
        """How many of ``number`` items that the step draws beside ``rows`` are this process' to draw."""
        return share_of(number, rank=self.rank, count=self.processes)


def fit(
    *,
    modules: Mapping[str, nn.Module],
    loss_step: Callable[[Batch], Mapping[str, Tensor]],
    sampler: RowSampler,
    schedule: Schedule,
    seed: int,
    fabric: Fabric,
    scratch: Path,
    curves: Path,
    desc: str,
    log_every: int = 50,
) -> None:
    """Trains ``modules`` in place by ``schedule`` and leaves them on ``fabric``'s device in eval mode.

    A step takes ``schedule.batch_size`` rows of ``sampler``; rates by group have the keys of ``modules``.
    In each step and for each group (key of ``modules``, in order) ``loss_step`` runs under autocast; its
    "total" is minimised over that group's parameters by AdamW (no decay on biases and norms), the other
    groups' parameters being constants meanwhile. All terms are averaged over ``log_every`` steps into the
    CSV ``curves``, with ``<group>_`` before their names when there are several groups.

    ``scratch`` keeps the state in ``<desc>.safetensors``, saved every 30 s (the clock decides when, never
    what); a call that finds one goes on from there and says so on standard error. Give two trainings of a
    stage different ``desc``. Raises ``GeobodyError`` on a loss that is not finite.

    With several processes each takes its share of every batch (see ``training.shares``); the first alone
    saves and reports, and all end with the same network.
    """
    steps, size = schedule.steps, schedule.batch_size
    shares = Shares(fabric, batch_size=size)
    optimizers: dict[str, torch.optim.Optimizer] = {}
    trainable: dict[str, list[nn.Parameter]] = {}
    for group, module in modules.items():
        fabric.to_device(module)
        trainable[group] = [parameter for parameter in module.parameters() if parameter.requires_grad]
        optimizers[group] = cast(
            torch.optim.Optimizer, fabric.setup_optimizers(_adamw(trainable[group], schedule.weight_decay))
        )
        module.train()

    checkpoints = Checkpoints(scratch / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', desc)}.safetensors")
    shares.spread_file(checkpoints.path)
    state = checkpoints.load(modules=modules, optimizers=optimizers) or TrainingState(
        step=0, curves="", sums={}
    )
    if state.step and shares.rank == 0:
        print(f"{desc}: goes on from step {state.step} of {steps}", file=sys.stderr, flush=True)
    writer = CurveWriter(curves, state.curves)
    sums = dict(state.sums)
    pause, saved = float(os.environ.get(SAVE_SECONDS, SAVE_SECONDS_DEFAULT)), time.monotonic()

    with torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        todo: Iterable[int] = range(state.step, steps)
        if shares.rank == 0:
            todo = progress(todo, total=steps, desc=desc, initial=state.step)
        for step in todo:
            for group, optimizer in optimizers.items():
                for parameters in optimizer.param_groups:
                    parameters["lr"] = schedule.learning_rate_at(step, group=group)
                group_seed = shares.seed(derived_seed(seed, group, step))
                torch.manual_seed(group_seed)
                batch = Batch(
                    rows=shares.rows(sampler.batch(step, size=size)),
                    step=step,
                    group=group,
                    generator=torch.Generator().manual_seed(group_seed),
                    rank=shares.rank,
                    processes=shares.count,
                )
                with _only(group, trainable):
                    with fabric.autocast():
                        terms = loss_step(batch)
                    _check_finite(terms, step=step, group=group, desc=desc)
                    optimizer.zero_grad()
                    fabric.backward(terms[TOTAL])
                means = shares.average(trainable[group], modules.values(), terms)
                torch.nn.utils.clip_grad_norm_(trainable[group], schedule.clip_norm)
                optimizer.step()
                for name, value in means.items():
                    column = name if len(modules) == 1 else f"{group}_{name}"
                    sums[column] = sums.get(column, 0.0) + value
            done = step + 1
            if done % log_every == 0 or done == steps:
                window = log_every if done % log_every == 0 else done % log_every
                writer.write(done, {column: total / window for column, total in sums.items()})
                sums = {}
            if shares.rank == 0 and (done == steps or time.monotonic() - saved >= pause):
                checkpoints.save(
                    TrainingState(step=done, curves=writer.text, sums=sums),
                    modules=modules,
                    optimizers=optimizers,
                )
                saved = time.monotonic()
    for module in modules.values():
        module.eval()


def _adamw(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)


@contextmanager
def _only(group: str, trainable: Mapping[str, list[nn.Parameter]]) -> Iterator[None]:
    """Makes constants of the other groups' parameters, which saves their gradients' cost."""
    others = [p for name, parameters in trainable.items() if name != group for p in parameters]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def _check_finite(terms: Mapping[str, Tensor], *, step: int, group: str, desc: str) -> None:
    if not math.isfinite(float(terms[TOTAL].detach())):
        broken = [name for name, value in terms.items() if not math.isfinite(float(value.detach()))]
        raise GeobodyError(
            f"{desc}: the loss of {group!r} is not finite at step {step} ({', '.join(broken)}); "
            "lower the stage's learning rate or use training.precision: 32-true"
        )
