"""The study's table as text: means over seeds, their spread, and what share of the gap each arm closes."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Final

from geobody.yaml12 import read_yaml
from tools.data_hash import FROZEN
from tools.study.collect import ROLLS, read
from tools.study.figure import FIGURE, draw
from tools.study.rows import CEILINGS, CONTROLS, FILES

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "study.md"
HEAD: Final = (
    "| | seeds | core-minutes | N-MPJPE | of `cnn_s1`'s | P-MPJPE | MPJPE | spread of poses (true) "
    "| gap closed, N / P |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
BODY_HEAD: Final = (
    "| | seeds | PVE | PVE less `default`'s | N-MPJPE | MPJPE | T-pose PVE | T-pose PVE, 40 bodies "
    "| root, degrees: all / facing / away | IoU, input / others | implausible, % |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)
BODY_ROW: Final = "default"
BESIDE: Final = {"labels": "compare", "turns": "compare"}
"""Parts that vary a param, and the part that has the same arms and seeds with its default."""
BOXES: Final = {"box_mm": "N-MPJPE by a box", "box_off_mm": "by a box that is off"}
Rows = Sequence[Mapping[str, str]]


def table(rows: Iterable[Mapping[str, str]], part: str) -> str:
    """A Markdown table of a part: a line for each arm and what was varied, the best first, controls last.

    An error is the mean over seeds, with the range in brackets where there are several. "Of `cnn_s1`'s" is the ratio to
    the error of the CNN with the same labels and seeds, "gap closed" how far the mean is on the way from that to
    the ceiling, of the same seeds, and the range of that over seeds; a tie where ranges of errors overlap. The ceiling
    is ``cnn_all`` or one of ``CEILINGS``, for each measure the best. Lines with the default of what was varied come
    from the part ``BESIDE`` it. Raises ValueError where seeds of a line had unequal steps.
    """
    every = [*rows]
    own = [row for row in every if row["part"] == part]
    if not own:
        return "Not run yet."
    trained = {(row["arm"], row["seed"]) for row in own}
    own += [row for row in every if row["part"] == BESIDE.get(part) and (row["arm"], row["seed"]) in trained]
    others = [row for row in every if row["part"] == CEILINGS.get(part)]
    own, ceilings = own + others, {"cnn_all", *(row["arm"] for row in others)}
    controls = {*CONTROLS, *ceilings}
    turns = len({row["turn_deg"] for row in own}) > 1
    titles = ({f"rolled_{roll}_mm": f"rolled by {roll}" for roll in ROLLS} if turns else {}) | BOXES
    more = {column: title for column, title in titles.items() if own[0].get(column)}
    fractions = len({row["fraction"] for row in own}) > 1
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in own:
        groups.setdefault((row["track"], row["fraction"], row["turn_deg"], row["arm"]), []).append(row)
    lines = [_with_columns(HEAD, [*more.values()])]
    for key in sorted(
        groups, key=lambda k: (k[0], -float(k[1]), float(k[2]), k[3] in controls, _error(groups[k]))
    ):
        group, beside = groups[key], {name: groups.get((*key[:3], name), []) for name in controls}
        many = [beside[name] for name in ceilings if beside[name]]
        title = f"`{key[3]}`" + (f", {float(key[1]):.0%} of the labels" if fractions else "")
        title += f", turned by {float(key[2]):g} degrees" if turns else ""
        if len({row["steps"] for row in group}) > 1:
            raise ValueError(f"part {part}: seeds of {title} had unequal steps: they are no one training's")
        cells = [_said(group, "n_mpjpe_17_mm"), _ratio(group, beside["cnn_s1"])]
        cells += [_said(group, name) for name in ("p_mpjpe_17_mm", "mpjpe_17_mm")]
        spreads = " (".join(f"{_mean(group, name):.0f}" for name in ("spread_mm", "true_spread_mm")) + ")"
        gap = _gap(group, beside["cnn_s1"], many) if key[3] not in controls else ""
        minutes = f"{_mean(group, 'core_minutes'):.0f}"
        cells += [spreads, gap, *(_said(group, column) for column in more)]
        lines.append(f"| {title} | {len(group)} | {minutes} | " + " | ".join(cells) + " |")
    whom = sorted({row["people"] for row in own})
    foot = f"mm, 17 joints, on {', '.join(whom)}; core-minutes by `study_steps.csv`; {_data(own)}.{_ties(groups)}"
    return "\n".join([*lines, "", foot])


def bodies(rows: Iterable[Mapping[str, str]]) -> str:
    """A Markdown table of all rows of the regressor's ablation, "default" first, then by the body's error.

    An error is the mean over seeds, with the range in brackets where there are several; so is the difference of PVE to
    "default" of the same seed, which has the same embeddings.
    """
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["arm"], []).append(row)
    if not groups:
        return "Not run yet."
    order = sorted(groups, key=lambda arm: (arm != BODY_ROW, _mean(groups[arm], "pve_mm")))
    default = {row["seed"]: float(row["pve_mm"]) for row in groups.get(BODY_ROW, ())}
    lines = [BODY_HEAD]
    for arm in order:
        group = groups[arm]
        paired = [row for row in group if arm != BODY_ROW and row["seed"] in default]
        less = [float(row["pve_mm"]) - default[row["seed"]] for row in paired]
        errors = ("n_mpjpe_17_mm", "mpjpe_17_mm", "t_pve_mm", "t_pve_40_bodies_mm")
        said = [_said(group, "pve_mm"), _with_span(less, "+.1f"), *(_said(group, name) for name in errors)]
        said += [" / ".join(_said(group, name) for name in ("root_deg", "root_facing_deg", "root_away_deg"))]
        said += [" / ".join(_said(group, name, ".2f") for name in ("iou_input", "iou_others"))]
        said += [_said(group, "implausible_pct", ".2f")]
        lines.append(f"| `{arm}` | {len(group)} | " + " | ".join(said) + " |")
    every = [row for group in groups.values() for row in group]
    return "\n".join([*lines, "", f"mm, on S9 and S11; {_data(every)}."])


def page(text: str, rows: Rows, body_rows: Rows = ()) -> str:
    """``text`` with the table of each part written anew. Raises ValueError if a part has no place in it."""
    tables = {part: table(rows, part) for file in FILES[:2] for part in read_yaml(file)["parts"]}
    for part, written in {**tables, "ablation": bodies(body_rows)}.items():
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- end {part} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"docs/study.md: the part <!-- {part} --> must stand there once")
        text = pattern.sub(lambda match, written=written: f"{match[1]}{written}\n{match[2]}", text)  # type: ignore[misc]
    return text


def _data(rows: Rows) -> str:
    """Which crops rows were measured on; those of another kind of processor than the committed set's are named."""
    order = sorted({row["crops"] for row in rows}, key=lambda crops: [*FROZEN, crops].index(crops))
    said = [f"crops `{order[0][:8]}`"]
    for crops in order[1:]:
        arms = sorted({f"`{row['arm']}`" for row in rows if row["crops"] == crops})
        said.append(
            f"crops `{crops[:8]}`, the same but for a few pixels (docs/reproducibility.md): {', '.join(arms)}"
        )
    return "; ".join(said)


def _with_columns(head: str, more: Sequence[str]) -> str:
    names, rule = head.split("\n")
    return names + "".join(f" {name} |" for name in more) + "\n" + rule + "---|" * len(more)


def _ratio(group: Rows, control: Rows) -> str:
    """Of errors, over the seeds that both have."""
    seeds = {row["seed"] for row in group} & {row["seed"] for row in control}
    return f"{_error(_of(seeds, group)) / _error(_of(seeds, control)):.2f}" if seeds else ""


def _gap(group: Rows, few: Rows, many: Sequence[Rows]) -> str:
    """The share of the way from ``few`` labels to the best of ``many``, over the seeds that all have, and its range."""
    shares = []
    for name in ("n_mpjpe_17_mm", "p_mpjpe_17_mm"):
        trios = (group, few, _best(many, name))
        seeds = set.intersection(*({row["seed"] for row in rows} for rows in trios))
        if not seeds:
            return ""
        share = _share(*(_of(seeds, rows) for rows in trios), name=name)
        by_seed = [_share(*(_of({seed}, rows) for rows in trios), name=name) for seed in seeds]
        tie = _tie(group, few, name)
        if share is None:
            shares.append("no gap")
        elif share < 0 and not tie:
            shares.append("behind")
        else:
            said = f"{share:.0%}"
            if len(known := [one for one in by_seed if one is not None]) > 1:
                said += f", {min(known):.0%} to {max(known):.0%}"
            shares.append(f"tie ({said})" if tie else said)
    return " / ".join(shares)


def _best(groups: Sequence[Rows], name: str) -> Rows:
    return min(groups, key=lambda rows: _mean(rows, name), default=())


def _of(seeds: Container[str], group: Rows) -> Rows:
    return [row for row in group if row["seed"] in seeds]


def _share(group: Rows, few: Rows, many: Rows, *, name: str) -> float | None:
    """None where ``many`` labels are no better than ``few``."""
    low, high = _mean(few, name), _mean(many, name)
    return (low - _mean(group, name)) / (low - high) if low > high else None


def _tie(one: Rows, other: Rows, name: str) -> bool:
    """Whether ranges over seeds overlap, or one seed lies in the other's range; two single ones have none."""
    a, b = ([float(row[name]) for row in group] for group in (one, other))
    return max(len(a), len(b)) > 1 and min(a) <= max(b) and min(b) <= max(a)


def _ties(groups: Mapping[tuple[str, ...], Rows]) -> str:
    """Which two groups of the same labels, track and turns tie, where any do."""
    said = []
    for measure, name in (("N-MPJPE", "n_mpjpe_17_mm"), ("P-MPJPE", "p_mpjpe_17_mm")):
        pairs = [
            f"`{one[3]}` and `{other[3]}`" + (f" at {float(one[1]):.0%}" if float(one[1]) < 1 else "")
            for one, other in combinations(sorted(groups), 2)
            if one[:3] == other[:3] and _tie(groups[one], groups[other], name)
        ]
        said += [f" Ties in {measure}, as their ranges overlap: {', '.join(pairs)}."] if pairs else []
    return "".join(said)


def _said(group: Rows, name: str, digits: str = ".1f") -> str:
    return _with_span([float(row[name]) for row in group if row[name]], digits)


def _with_span(values: Sequence[float], digits: str) -> str:
    if not values:
        return ""
    span = f" ({min(values):{digits}} to {max(values):{digits}})" if len(values) > 1 else ""
    return f"{fmean(values):{digits}}{span}"


def _mean(group: Rows, name: str) -> float:
    values = [float(row[name]) for row in group if row[name]]
    return fmean(values) if values else float("nan")


def _error(group: Rows) -> float:
    return _mean(group, "n_mpjpe_17_mm")


def main() -> None:
    """Writes docs/study.md anew."""
    from tools.study.__main__ import ABLATION, TABLE

    PAGE.write_text(page(PAGE.read_text(), read(TABLE), read(ABLATION)))
    draw(read(TABLE), FIGURE)


if __name__ == "__main__":
    main()
