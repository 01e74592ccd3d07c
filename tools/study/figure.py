"""The study's picture: error against the share of labels, for the winner and the CNN without unlabelled images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from geobody.report.figures import new_figure, save_png

FIGURE: Final = Path(__file__).resolve().parents[2] / "metrics" / "figures" / "labels.png"
PARTS: Final = ("compare", "labels")
MEASURES: Final = (("n_mpjpe_17_mm", "N-MPJPE, mm"), ("p_mpjpe_17_mm", "P-MPJPE, mm"))
CONTROL, CEILING = "cnn_s1", "cnn_all"


def draw(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    """Writes the PNG ``path``, if ``rows`` of the study hold fewer labels than all.

    Lines are means over seeds, bars reach from the least to the greatest. The ceiling has everyone's labels.
    """
    arms = sorted({row["arm"] for row in rows if row["part"] == "labels"} - {"mean_pose", CEILING, CONTROL})
    if not arms:
        return
    own = [row for row in rows if row["part"] in PARTS and row["arm"] in (*arms, CONTROL, CEILING)]
    figure = new_figure(9, 3.6)
    for place, (measure, label) in enumerate(MEASURES):
        axes = figure.add_subplot(1, len(MEASURES), place + 1)
        for arm in (*arms, CONTROL):
            groups: dict[float, list[float]] = {}
            for row in (row for row in own if row["arm"] == arm):
                groups.setdefault(100 * float(row["fraction"]), []).append(float(row[measure]))
            shares = sorted(groups)
            means = [fmean(groups[share]) for share in shares]
            reach = [
                [mean - min(groups[share]) for share, mean in zip(shares, means, strict=True)],
                [max(groups[share]) - mean for share, mean in zip(shares, means, strict=True)],
            ]
            axes.errorbar(shares, means, yerr=reach, marker="o", capsize=3, label=arm)
        ceiling = [float(row[measure]) for row in own if row["arm"] == CEILING]
        if ceiling:  # of the part compare; with fewer labels it is not trained again
            axes.axhline(fmean(ceiling), color="#4a4a4a", linestyle="--", label=CEILING)
        axes.set(xscale="log", xlabel="share of S1's labels, %", ylabel=label)
        axes.set_xticks(sorted({100 * float(row["fraction"]) for row in own}), minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.legend()
    figure.tight_layout()
    save_png(path, figure)
