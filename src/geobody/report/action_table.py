"""Pose errors by action as a CSV, which DVC plots as bars."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from geobody.report.metrics_json import SIGNIFICANT_DIGITS

MEASURES: Final = ("mpjpe_17_mm", "n_mpjpe_17_mm", "p_mpjpe_17_mm")


def write_action_table(path: Path, metrics: Mapping[str, Any]) -> None:
    """One row per predictor and action of the metrics of ``evaluate``: the means of ``MEASURES``, in mm.

    Predictors without errors by action (the mean body) have no rows.
    """
    predictors = {"head": metrics["pose"], "body": metrics["smpl"], **metrics["controls"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["predictor", "action", *MEASURES])
        for predictor, section in predictors.items():
            for action, means in sorted(section.get("by_action", {}).items()):
                figures = [f"{means[measure]:.{SIGNIFICANT_DIGITS}g}" for measure in MEASURES]
                table.writerow([predictor, action, *figures])
