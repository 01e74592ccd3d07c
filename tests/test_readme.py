"""What README.md shows is what the committed dvc.yaml and metrics/ say."""

import json
from pathlib import Path

import pytest

from committed import committed
from tools import write_readme
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
