"""What is compared, read from this folder's YAML files: each experiment's name and the params that it changes."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

from geobody.yaml12 import read_yaml

FILES: Final = tuple(
    Path(__file__).with_name(name) for name in ("arms.yaml", "controls.yaml", "ablation.yaml")
)
"""Arms and the controls' recipes by their poses, and choices of the regressor by its bodies."""
HEAD: Final = "pose head"


CONTROLS: Final = ("mean_pose", "cnn_s1", "cnn_all")
"""Rows beside an arm's that no representation is behind."""
CEILINGS: Final = {"screen": "controls_all", "compare": "ceiling", "masked": "ceiling_masked"}
"""Parts, and those with other recipes of ``cnn_all``, for the same people and track: a gap is measured to the best."""


@dataclass(frozen=True)
class Experiment:
    """One run of the pipeline: an arm of a part of the study, with a seed and what the part varies."""

    part: str
    arm: str
    seed: int
    held_out: tuple[int, ...]
    params: Mapping[str, Any]
    """Dotted name -> value, of everything that differs from params.yaml."""
    controls: tuple[str, ...] = CONTROLS
    """Controls that are read beside the arm."""
    judged: str = HEAD
    """Whose errors the row has: those of the arm's head, or of one of ``CONTROLS``."""

    @property
    def name(self) -> str:
        """Of the experiment in DVC: another one for any other changes."""
        text = json.dumps(dict(self.params), sort_keys=True)
        return (
            f"study-{self.part}-{self.arm.replace('_', '-')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        )

    def without_controls(self) -> "Experiment":
        """The same arm, with the controls cut short: for where they are known."""
        return replace(self, controls=(), params={**self.params, "controls.steps": UNREAD_STEPS})


UNREAD_STEPS: Final = 150
"""Training of controls that no row is read from; a stage's networks must be there."""
OF_CONTROLS: Final = (
    "training.", "controls.", "augmentation.", "pose_loss.", "labels.", "held_out.", "seed", "gan_prior.",
)  # fmt: skip
"""Beginnings of the names of params that controls and the prior are trained by."""


def overrides(params: Mapping[str, Any]) -> list[str]:
    """Arguments of ``dvc exp run`` that set the params."""
    return [argument for key, value in params.items() for argument in ("-S", f"{key}={json.dumps(value)}")]


def of_controls(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the params that make a difference to the controls, or to the prior, which no arm changes either."""
    return {key: value for key, value in params.items() if key.startswith(OF_CONTROLS)}


def of_embeddings(params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the params that make a difference to what body regressors read."""
    return {key: value for key, value in params.items() if not key.startswith("smpl_regressor.")}


def alike(
    experiments: Iterable[Experiment], what: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> list[list[Experiment]]:
    """The experiments, those together of whose params ``what`` leaves the same."""
    groups: dict[str, list[Experiment]] = {}
    for e in experiments:
        groups.setdefault(json.dumps(dict(what(e.params)), sort_keys=True), []).append(e)
    return list(groups.values())


def file_of(part: str) -> Path:
    """The file that defines a part. Raises ValueError when none does."""
    known = {name: path for path in FILES for name in read_yaml(path)["parts"]}
    if part not in known:
        raise ValueError(f"there is no part {part}; there are {', '.join(known)}")
    return known[part]


def jobs_of(part: str) -> int:
    """How many experiments of a part run side by side."""
    return int(read_yaml(file_of(part))["jobs"])


def stages_of(part: str) -> list[str]:
    """The stages that experiments of a part run up to: those whose metrics are read."""
    study = read_yaml(file_of(part))
    return [str(stage) for stage in study["parts"][part].get("stages", study["stages"])]


def experiments(part: str, *, file: Path | None = None) -> list[Experiment]:
    """All experiments of a part, in the order of its ``file``.

    Raises ValueError for an unknown part, and for an arm that the file does not define.
    """
    file = file or file_of(part)
    study = read_yaml(file)
    arms, settings = study["arms"], study["parts"][part]
    if unknown := sorted(set(settings["arms"]) - set(arms)):
        raise ValueError(f"{file}: parts.{part} names {unknown[0]}, which arms does not define")
    held_out = tuple(settings.get("held_out", ()))
    vary = settings.get("vary", {})
    controls = tuple(settings.get("controls", CONTROLS))
    judged = settings.get("judged", HEAD)
    found = []
    for seed, values, arm in product(settings["seeds"], product(*vary.values()), settings["arms"]):
        varied = dict(zip(vary, values, strict=True))
        row = {"arm": arm, "seed": seed, **varied}
        if any(all(row[key] in few for key, few in rule.items()) for rule in settings.get("without", ())):
            continue
        params = {**study["common"], **arms[arm], **settings.get("set", {}), **varied, "seed": seed}
        if held_out:
            params["held_out.subjects"] = list(held_out)
        found.append(Experiment(part, arm, seed, held_out, params, controls, judged))
    return found
