"""What README.md shows is what the committed dvc.yaml and metrics/ say."""

import json
from pathlib import Path

import pytest

from committed import committed
from tools import write_readme
from tools.study import collect
from tools.write_readme import readme

ROOT = Path(__file__).resolve().parents[1]


def test_the_dag_and_the_tables_are_those_of_the_committed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or of the checkout's, before they are committed."""
    text = (ROOT / "README.md").read_text()
    of_the_checkout = readme(text)
    monkeypatch.setattr(
        write_readme, "_metrics", lambda name: json.loads(committed(ROOT / f"metrics/{name}.json"))
    )
    assert text in (of_the_checkout, readme(text)), "run: make report"


def test_the_sweep_over_labels_is_shown_once_it_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    known = collect.read(ROOT / "metrics/tables/study.csv")
    row = known[0] | {"part": "compare", "arm": "ours", "fraction": "1.0"}
    monkeypatch.setattr(write_readme.collect, "read", lambda path: [row])
    assert "fewer" not in write_readme.study()
    monkeypatch.setattr(
        write_readme.collect, "read", lambda path: [row, row | {"part": "labels", "fraction": "0.1"}]
    )
    assert "(metrics/figures/labels.png)" in write_readme.study()
