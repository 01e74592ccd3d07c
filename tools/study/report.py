"""The study's table as text: means over seeds, their spread, and what share of the gap each arm closes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from geobody.yaml12 import read_yaml
from tools.study.collect import read
from tools.study.figure import FIGURE, draw
from tools.study.rows import CONTROLS, FILES

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "study.md"
HEAD: Final = (
    "| | seeds | core-minutes | N-MPJPE | P-MPJPE | MPJPE | spread of poses (true) | gap closed, N / P |\n"
    "|---|---|---|---|---|---|---|---|"
)
BODY_HEAD: Final = (
    "| | seeds | PVE | N-MPJPE | MPJPE | T-pose PVE | root, degrees: all / facing away | IoU, input / others "
    "| implausible, % |\n|---|---|---|---|---|---|---|---|---|"
)
Rows = Sequence[Mapping[str, str]]


def table(rows: Iterable[Mapping[str, str]], part: str) -> str:
    """A Markdown table of a part: a line for each arm and what was varied, the best first, controls last.

    An error is the mean over seeds, with the range in brackets where there are several. "Gap closed" is how far
    the mean is on the way from ``cnn_s1`` to ``cnn_all``.
    """
    own = [row for row in rows if row["part"] == part]
    if not own:
        return "Not run yet."
    turns = len({row["turn_deg"] for row in own}) > 1
    rolled = [column for column in own[0] if column.startswith("rolled_") if turns]
    fractions = len({row["fraction"] for row in own}) > 1
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in own:
        groups.setdefault((row["track"], row["fraction"], row["turn_deg"], row["arm"]), []).append(row)
    lines = [_with_columns(HEAD, [f"rolled by {column.split('_')[1]}" for column in rolled])]
    for key in sorted(
        groups, key=lambda k: (k[0], -float(k[1]), float(k[2]), k[3] in CONTROLS, _error(groups[k]))
    ):
        group, beside = groups[key], {name: groups.get((*key[:3], name), []) for name in CONTROLS}
        title = f"`{key[3]}`" + (f", {float(key[1]):.0%} of the labels" if fractions else "")
        title += f", turned by {float(key[2]):g} degrees" if turns else ""
        cells = [_said(group, name) for name in ("n_mpjpe_17_mm", "p_mpjpe_17_mm", "mpjpe_17_mm")]
        spreads = " (".join(f"{_mean(group, name):.0f}" for name in ("spread_mm", "true_spread_mm")) + ")"
        gap = _gap(group, beside) if key[3] not in CONTROLS else ""
        minutes = f"{_mean(group, 'core_minutes'):.0f}"
        cells += [spreads, gap, *(f"{_mean(group, column):.1f}" for column in rolled)]
        lines.append(f"| {title} | {len(group)} | {minutes} | " + " | ".join(cells) + " |")
    whom = sorted({row["people"] for row in own})
    return "\n".join([*lines, "", f"mm, 17 joints, on {', '.join(whom)}; crops `{own[0]['crops'][:8]}`."])


def bodies(rows: Iterable[Mapping[str, str]]) -> str:
    """A Markdown table of all rows of the regressor's ablation, "default" first, then by the body's error."""
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["arm"], []).append(row)
    if not groups:
        return "Not run yet."
    order = sorted(groups, key=lambda arm: (arm != "default", _mean(groups[arm], "pve_mm")))
    lines = [BODY_HEAD]
    for arm in order:
        group = groups[arm]
        said = [_said(group, name) for name in ("pve_mm", "n_mpjpe_17_mm", "mpjpe_17_mm", "t_pve_mm")]
        said += [f"{_said(group, 'root_deg')} / {_said(group, 'root_away_deg')}"]
        said += [" / ".join(f"{_mean(group, name):.2f}" for name in ("iou_input", "iou_others"))]
        said += [f"{_mean(group, 'implausible_pct'):.2g}"]
        lines.append(f"| `{arm}` | {len(group)} | " + " | ".join(said) + " |")
    crops = groups[order[0]][0]["crops"][:8]
    return "\n".join([*lines, "", f"mm, on S9 and S11; crops `{crops}`."])


def page(text: str, rows: Rows, body_rows: Rows = ()) -> str:
    """``text`` with the table of each part written anew. Raises ValueError if a part has no place in it."""
    tables = {part: table(rows, part) for part in read_yaml(FILES[0])["parts"]}
    for part, written in {**tables, "ablation": bodies(body_rows)}.items():
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- end {part} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"docs/study.md: the part <!-- {part} --> must stand there once")
        text = pattern.sub(lambda match, written=written: f"{match[1]}{written}\n{match[2]}", text)  # type: ignore[misc]
    return text


def _with_columns(head: str, more: Sequence[str]) -> str:
    names, rule = head.split("\n")
    return names + "".join(f" {name} |" for name in more) + "\n" + rule + "---|" * len(more)


def _gap(group: Rows, beside: Mapping[str, Rows]) -> str:
    if not (beside["cnn_s1"] and beside["cnn_all"]):
        return ""
    shares = []
    for name in ("n_mpjpe_17_mm", "p_mpjpe_17_mm"):
        low, high = _mean(beside["cnn_s1"], name), _mean(beside["cnn_all"], name)
        shares.append(f"{(low - _mean(group, name)) / (low - high):.0%}" if low > high else "no gap")
    return " / ".join(shares)


def _said(group: Rows, name: str) -> str:
    values = [float(row[name]) for row in group]
    span = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{fmean(values):.1f}{span}"


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
