"""Writes the figures of docs/data_card.md anew from metrics/ and params.yaml.

``make report`` calls it; a test calls ``data_card`` and finds a stale file. Figures stand between
``<!-- NAME -->`` and ``<!-- end NAME -->``; what stands elsewhere is written by hand.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from geobody.config import load_params  # noqa: E402

CARD: Final = ROOT / "docs" / "data_card.md"
CONVERGENCE: Final = ROOT / "metrics" / "tables" / "convergence.csv"
CONTROLS: Final = {"mean_pose": "mean pose", "cnn_s1": "CNN from scratch", "cnn_all": "CNN from scratch"}
CNNS: Final = ("cnn_s1", "cnn_all")


def counts(synth: Mapping[str, Any]) -> str:
    """What the set holds, as ``metrics/synth.json`` says."""
    poses, nearest = synth["distinct_poses"], synth["test_to_nearest_train_pose_deg"]
    prior = synth["surreal"]
    away = " / ".join(f"{share:.0f}" for share in synth["facing_away_pct"].values())
    rows = [
        ("images, and as many masks", f"{synth['image_files']:,}"),
        ("of them of the seven subjects", f"{synth['images']:,} in {synth['sequences']:,} sequences"),
        ("instants, each seen by four cameras", f"{synth['instants']:,}"),
        (
            "distinct poses: all / training / test",
            f"{poses['all']:,} / {poses['train']:,} / {poses['test']:,}",
        ),
        ("distinct poses with the prior's", f"{poses['with_prior']:,}"),
        ("test pose to nearest training pose: median / 5 %", _degrees(nearest)),
        ("people face away from camera 1 / 2 / 3 / 4, %", away),
        ("joints behind a chair, %", f"{synth['joints_behind_chair_pct']:.1f}"),
        ("images with a joint behind a chair, %", f"{synth['images_with_joint_behind_chair_pct']:.1f}"),
        ("images that cut the person, %", f"{synth['body_crosses_image_pct']:.1f}"),
        ("crops (2 m around the root) that the person leaves, %", f"{synth['body_crosses_crop_pct']:.1f}"),
        ("poses for the prior: to train / to judge", " / ".join(f"{p['poses']:,}" for p in prior.values())),
    ]
    if body := synth.get("evaluation"):
        rows += [
            ("bodies for evaluation / their poses", f"{body['bodies']} / {body['poses']}"),
            ("their distinct poses", f"{body['distinct_poses']}"),
            (
                "their poses to the nearest training pose: median / 5 %",
                _degrees(body["to_nearest_train_pose_deg"]),
            ),
        ]
    return _table(("what", "figure"), rows)


def difficulty(evaluation: Mapping[str, Any], steps: int, batch_size: int) -> str:
    """The controls on S9 + S11 and their ratios, with the training that they had."""
    n_mpjpe = {
        name: evaluation["controls"][name]["n_mpjpe_17_mm"] for name in ("mean_pose", "cnn_s1", "cnn_all")
    }
    mean, one, every = n_mpjpe.values()
    rows = [
        ("mean pose of S1", f"{mean:.0f}", ""),
        ("CNN from scratch, labels of S1", f"{one:.0f}", f"{one / mean:.2f} of the mean pose's"),
        (
            "CNN from scratch, labels of all five",
            f"{every:.0f}",
            f"{every / one:.2f} of the CNN's with S1 alone",
        ),
    ]
    table = _table(("S9 + S11", "N-MPJPE, mm", "ratio"), rows)
    return (
        f"{table}\n\nEach CNN was trained for {steps:,} steps of {batch_size} images (`metrics/eval.json`)."
    )


def convergence(table: Path) -> str:
    """The same controls trained to convergence, as ``make convergence`` wrote them to ``table``.

    Raises ValueError if the table is missing, lacks a control, or trained its networks unequally.
    """
    if not table.is_file():
        raise ValueError(f"{table}: is missing; make it with: make convergence")
    with table.open(newline="") as file:
        found = {row["control"]: row for row in csv.DictReader(file)}
    if set(found) != set(CONTROLS):
        raise ValueError(f"{table}: must hold {', '.join(CONTROLS)}, not {', '.join(found)}")
    trainings = {tuple(found[name][key] for key in ("steps", "batch_size", "seed")) for name in CNNS}
    if len(trainings) != 1:
        raise ValueError(f"{table}: must hold one training of both networks, not {sorted(trainings)}")
    rows = []
    for name, what in CONTROLS.items():
        row = found[name]
        beside = f"{CONTROLS[row['of']]}, {found[row['of']]['labels']}" if row["of"] else ""
        ratio = f"{float(row['ratio']):.2f} of: {beside}" if beside else ""
        rows.append((what, row["labels"].replace("+", ", "), f"{float(row['n_mpjpe_17_mm']):.0f}", ratio))
    ((steps, batch_size, seed),) = trainings
    return (
        f"{_table(('S9 + S11', 'labels', 'N-MPJPE, mm', 'ratio'), rows)}\n\n"
        f"Here each CNN was trained for {int(steps):,} steps of {batch_size} images, seed {seed} "
        "on crops neither shifted nor scaled (`make convergence`, `metrics/tables/convergence.csv`)."
    )


def data_card(text: str, *, converged: Path = CONVERGENCE) -> str:
    """``text`` with its figures written anew; ``converged`` is the table of ``make convergence``.

    Raises ValueError if a part does not stand there once, or if that table is missing.
    """
    controls = load_params(ROOT / "params.yaml").controls
    parts: dict[str, Callable[[], str]] = {
        "counts": lambda: counts(_metrics("synth")),
        "difficulty": lambda: difficulty(_metrics("eval"), controls.steps, controls.batch_size),
        "convergence": lambda: convergence(converged),
    }
    for name, write in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"docs/data_card.md: the part <!-- {name} --> must stand there once")
        part = write()
        text = pattern.sub(lambda match, part=part: f"{match[1]}{part}\n{match[2]}", text)  # type: ignore[misc]
    return text


def _degrees(distances: Mapping[str, float]) -> str:
    return f"{distances['median']:.1f} / {distances['p5']:.1f} degrees"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _metrics(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "metrics" / f"{name}.json").read_text())


if __name__ == "__main__":
    CARD.write_text(data_card(CARD.read_text()))
