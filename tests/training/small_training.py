"""A training of a small network, for ``torchrun`` to start in as many processes as it is told.

``small_training.py FOLDER [--dropout] [--norm] [--stop STEP]`` leaves ``rank_0.safetensors``, ... there.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from geobody.processes import this_process
from geobody.training.checkpoint import save_weights
from geobody.training.determinism import make_fabric, seeded
from geobody.training.loop import Batch, RowSampler, fit
from geobody.training.schedule import Schedule

STEPS, ROWS, BATCH = 20, 40, 7


def network(*, dropout: bool, norm: bool) -> nn.Sequential:
    with seeded(1, "network"):
        layers: list[nn.Module] = [nn.Linear(5, 16), nn.Tanh()]
        layers += [nn.BatchNorm1d(16)] if norm else []
        layers += [nn.Dropout(0.5)] if dropout else []
        return nn.Sequential(*layers, nn.Linear(16, 2))


def train(folder: Path, *, dropout: bool = False, norm: bool = False, stop: int | None = None) -> None:
    """Fits the network in this process' share; ``stop`` raises KeyboardInterrupt in the step of that number."""
    data = torch.randn(ROWS, 7, generator=torch.Generator().manual_seed(3))
    net = network(dropout=dropout, norm=norm)

    def loss_step(batch: Batch) -> dict[str, torch.Tensor]:
        if batch.step == stop:
            raise KeyboardInterrupt
        rows = data[batch.rows]
        error = (net(rows[:, :5]) - rows[:, 5:]).square().mean()
        return {"total": error, "error": error.sqrt() ** 2}

    rank = this_process().rank
    fit(
        modules={"net": net},
        loss_step=loss_step,
        sampler=RowSampler(np.arange(ROWS), seed=0),
        schedule=Schedule(STEPS, BATCH, learning_rate=1e-2, weight_decay=0.1, warmup_steps=2, clip_norm=1.0),
        seed=0,
        fabric=make_fabric(precision="32-true", threads=1, device="cpu"),
        scratch=folder / f"scratch_{rank}",
        curves=folder / f"curves_{rank}.csv",
        desc="net",
        log_every=5,
    )
    save_weights(folder / f"rank_{rank}.safetensors", net, {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dropout", action="store_true")
    parser.add_argument("--norm", action="store_true")
    parser.add_argument("--stop", type=int)
    train(**vars(parser.parse_args()))
