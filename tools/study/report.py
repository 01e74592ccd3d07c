"""The study's table as text: means over seeds, their spread, and what share of the gap each arm closes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from geobody.yaml12 import read_yaml
from tools.study.collect import CONTROLS, read
from tools.study.rows import FILES

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "study.md"
HEAD: Final = (
    "| | seeds | core-minutes | N-MPJPE | P-MPJPE | MPJPE | spread of poses (true) | gap closed, N / P |\n"
    "|---|---|---|---|---|---|---|---|"
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
    fractions = len({row["fraction"] for row in own}) > 1
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in own:
        groups.setdefault((row["track"], row["fraction"], row["turn_deg"], row["arm"]), []).append(row)
    lines = [HEAD]
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
        lines.append(f"| {title} | {len(group)} | {minutes} | " + " | ".join([*cells, spreads, gap]) + " |")
    whom = sorted({row["people"] for row in own})
    return "\n".join([*lines, "", f"mm, 17 joints, on {', '.join(whom)}; crops `{own[0]['crops'][:8]}`."])


def page(text: str, rows: Rows) -> str:
    """``text`` with the table of each part written anew. Raises ValueError if a part has no place in it."""
    for part in read_yaml(FILES[0])["parts"]:
        pattern = re.compile(rf"(<!-- {part} -->\n).*?(<!-- end {part} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"docs/study.md: the part <!-- {part} --> must stand there once")
        written = table(rows, part)
        text = pattern.sub(lambda match, written=written: f"{match[1]}{written}\n{match[2]}", text)  # type: ignore[misc]
    return text


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
    from tools.study.__main__ import TABLE

    PAGE.write_text(page(PAGE.read_text(), read(TABLE)))


if __name__ == "__main__":
    main()
