"""Weights and resumable training states as safetensors: no pickle, no half-written file."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from geobody.errors import DataError

CONFIG_KEY = "config"


def save_weights(path: Path, weights: nn.Module | Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Writes a state dict and the keyword arguments that rebuild its network to ``path``, atomically.

    ``config`` goes into the file's one metadata entry as JSON, keys sorted: the same weights and config
    give the same bytes.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    _write(path, state, {CONFIG_KEY: json.dumps(config, sort_keys=True)})


def load_weights(
    path: Path, *, cure: str = "make it anew with: dvc repro"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the state dict (on the CPU) and the config that ``save_weights`` wrote.

    Raises ``DataError`` when the file is missing, cut off, or not a file of ``save_weights``.
    """
    tensors, metadata = _read(path, cure)
    try:
        config = json.loads(metadata[CONFIG_KEY])
    except (KeyError, json.JSONDecodeError) as error:
        raise DataError(path, f"has no {CONFIG_KEY!r} in its metadata", cure) from error
    return tensors, config


@dataclass(frozen=True)
class TrainingState:
    """What a checkpoint holds beside weights and optimisers.

    ``step`` steps are done; ``curves`` is the CSV so far; ``sums`` are the loss terms summed since its
    last row, by column, as float64.
    """

    step: int
    curves: str
    sums: dict[str, float]


class Checkpoints:
    """The latest state of one training in one file, replaced atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(
        self,
        state: TrainingState,
        *,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
    ) -> None:
        """Writes weights, buffers, the optimisers' moments and ``state``."""
        tensors: dict[str, Tensor] = {}
        for group, module in modules.items():
            tensors |= {f"weights/{group}/{name}": value for name, value in module.state_dict().items()}
            for index, moments in _moments(optimizers[group]).items():
                tensors |= {f"moments/{group}/{index}/{name}": value for name, value in moments.items()}
        tensors |= {
            f"sums/{column}": torch.tensor(v, dtype=torch.float64) for column, v in state.sums.items()
        }
        config = {"step": state.step, "curves": state.curves, "columns": list(state.sums)}
        _write(self.path, tensors, {CONFIG_KEY: json.dumps(config, sort_keys=True)})

    def load(
        self,
        *,
        modules: Mapping[str, nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
    ) -> TrainingState | None:
        """Restores modules and optimisers in place; returns the rest, or None when nothing was saved.

        Raises ``DataError`` when the file is broken or belongs to another network.
        """
        if not self.path.exists():
            return None
        tensors, config = load_weights(self.path, cure="delete it to train from the start")
        try:
            for group, module in modules.items():
                module.load_state_dict(_below(tensors, f"weights/{group}/"))
                _restore_moments(optimizers[group], _below(tensors, f"moments/{group}/"))
            sums = {column: float(tensors[f"sums/{column}"]) for column in config["columns"]}
            return TrainingState(step=config["step"], curves=config["curves"], sums=sums)
        except (KeyError, RuntimeError) as error:
            raise DataError(
                self.path, "is a checkpoint of another training", "delete it to train from the start"
            ) from error


def _moments(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
    return state


def _restore_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Gives each parameter its moments, laid out in memory as the parameter is.

    ``Optimizer.load_state_dict`` would leave moments of channels-last weights contiguous, which a fused
    step need not survive.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][name] = value.to(parameter.device) if value.ndim else value


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    dense = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(dense, temporary, metadata=metadata)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path, cure: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise DataError(path, "is missing", cure)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(path, "is not a readable safetensors file", cure) from error
