"""The study's picture: error against the share of labels, for the part's arms and the CNN with labels alone."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
from matplotlib.ticker import NullLocator

from geobody.report.figures import new_figure, save_png
from tools.study.rows import CEILINGS

FIGURE: Final = Path(__file__).resolve().parents[2] / "metrics" / "figures" / "labels.png"
MEASURES: Final = (("n_mpjpe_17_mm", "N-MPJPE, mm"), ("p_mpjpe_17_mm", "P-MPJPE, mm"))
CONTROL, CEILING = "cnn_s1", "cnn_all"
PARTS: Final = ("compare", "labels", CEILINGS["compare"])
STYLES: Final = ("--", ":", "-.")
NAMES_IN_A_LINE: Final = 3


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Writes the PNG ``path``, if ``rows`` of the study hold fewer labels than all.

    Lines are means over seeds, bars reach from the least to the greatest.
    """
    ceilings = [CEILING, *sorted({row["arm"] for row in rows if row["part"] == CEILINGS["compare"]})]
    arms = sorted({row["arm"] for row in rows if row["part"] == "labels"} - {"mean_pose", CONTROL, CEILING})
    if not arms:
        return
    figure = new_figure(10, 4.0)
    for place, (measure, label) in enumerate(MEASURES):
        axes = figure.add_subplot(1, len(MEASURES), place + 1)
        ticks: set[float] = set()
        for arm in (*arms, CONTROL):
            found = over_labels(rows, arm, measure)
            if not found:
                continue
            shares, means, least, most = zip(*found, strict=True)
            reach = [np.subtract(means, least), np.subtract(most, means)]
            axes.errorbar(shares, means, yerr=reach, marker="o", capsize=3, label=arm)
            ticks.update(shares)
        axes.set(xscale="log", xlabel="share of S1's labels, %", ylabel=label)
        axes.set_xticks(sorted(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        # Ceilings are of other parts: with fewer labels of S1 they are not trained again.
        for ceiling, style in zip(ceilings, cycle(STYLES), strict=False):
            for _, mean, _, _ in over_labels(rows, ceiling, measure):
                axes.axhline(mean, color="#4a4a4a", linestyle=style, label=ceiling)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, ncol=NAMES_IN_A_LINE, frameon=False, loc="upper center")
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.07 * ceil(len(names) / NAMES_IN_A_LINE)))
    save_png(path, figure)


def over_labels(
    rows: Iterable[Mapping[str, str]], arm: str, measure: str
) -> list[tuple[float, float, float, float]]:
    """Share of the labels, %, then mean, least and greatest over seeds, ascending by share."""
    groups: dict[float, list[float]] = {}
    for row in rows:
        if row["part"] in PARTS and row["arm"] == arm:
            groups.setdefault(100 * float(row["fraction"]), []).append(float(row[measure]))
    return [(share, fmean(found), min(found), max(found)) for share, found in sorted(groups.items())]
