"""Learning curves: means of loss terms over a window of steps, as a CSV that DVC plots."""

from collections.abc import Mapping
from pathlib import Path

HEADER_KEY = "step"


class CurveWriter:
    """A CSV with one row per window, rewritten whole from ``text`` when a training resumes.

    Columns are ``step`` and the terms of the first row, in its order; a later row must hold the same
    terms. Values have six significant digits.
    """

    def __init__(self, path: Path, text: str = "") -> None:
        self.path = path
        self.text = text
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @property
    def columns(self) -> list[str]:
        return self.text.split("\n", 1)[0].split(",") if self.text else []

    def write(self, step: int, terms: Mapping[str, float]) -> None:
        """Appends the row of ``step``; raises ``ValueError`` when the terms are not the columns."""
        row = ",".join([str(step), *(f"{value:.6g}" for value in terms.values())]) + "\n"
        if not self.text:
            row = ",".join([HEADER_KEY, *terms]) + "\n" + row
        elif self.columns[1:] != list(terms):
            raise ValueError(f"curve terms changed from {self.columns[1:]} to {list(terms)} at step {step}")
        self.text += row
        with self.path.open("a") as file:
            file.write(row)


def merge_curves(files: Mapping[str, Path], merged: Path, *, column: str) -> None:
    """Writes the rows of CSV ``files`` of equal columns to one CSV, with their names in a first ``column``."""
    lines: list[str] = []
    for name, file in files.items():
        header, *values = file.read_text().splitlines()
        lines = lines or [f"{column},{header}"]
        lines += [f"{name},{value}" for value in values]
    merged.parent.mkdir(parents=True, exist_ok=True)
    merged.write_text("\n".join(lines) + "\n")
