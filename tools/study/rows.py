"""What the study compares, read from rows.yaml: each experiment's name and the params that it changes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

from geobody.yaml12 import read_yaml

ROWS: Final = Path(__file__).with_name("rows.yaml")


@dataclass(frozen=True)
class Experiment:
    """One run of the pipeline: an arm of a part of the study, with a seed and what the part varies."""

    part: str
    arm: str
    seed: int
    varied: Mapping[str, Any]
    held_out: tuple[int, ...]
    params: Mapping[str, Any]
    """Dotted name -> value, of everything that differs from params.yaml."""

    @property
    def name(self) -> str:
        """Of the experiment in DVC: another one for any other params."""
        text = json.dumps(dict(self.params), sort_keys=True)
        return (
            f"study-{self.part}-{self.arm.replace('_', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        )


OF_CONTROLS: Final = ("training.", "controls.", "augmentation.", "labels.", "held_out.", "seed")
"""Beginnings of the names of params that controls are trained by."""


def overrides(params: Mapping[str, Any]) -> list[str]:
    """Arguments of ``dvc exp run`` that set the params."""
    return [argument for key, value in params.items() for argument in ("-S", f"{key}={json.dumps(value)}")]


def of_controls(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the params that make a difference to the controls."""
    return {key: value for key, value in params.items() if key.startswith(OF_CONTROLS)}


def experiments(part: str | None = None, *, rows: Path = ROWS) -> list[Experiment]:
    """All experiments of a part, or of the whole study, in the order of ``rows``.

    Raises ValueError for an unknown part, and for an arm that ``rows`` does not define.
    """
    study = read_yaml(rows)
    parts, arms = study["parts"], study["arms"]
    if part is not None and part not in parts:
        raise ValueError(f"{rows}: has no part {part}; there are {', '.join(parts)}")
    found = []
    for name, settings in parts.items():
        if part not in (None, name):
            continue
        if unknown := sorted(set(settings["arms"]) - set(arms)):
            raise ValueError(f"{rows}: parts.{name} names {unknown[0]}, which arms does not define")
        held_out = tuple(settings.get("held_out", ()))
        vary = settings.get("vary", {})
        for seed, values, arm in product(settings["seeds"], product(*vary.values()), settings["arms"]):
            varied = dict(zip(vary, values, strict=True))
            params = {**study["common"], **arms[arm], **varied, "seed": seed}
            if held_out:
                params["held_out.subjects"] = list(held_out)
            found.append(Experiment(name, arm, seed, varied, held_out, params))
    return found
