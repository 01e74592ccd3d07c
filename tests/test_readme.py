"""What README.md shows is what the committed dvc.yaml and metrics/ say."""

from pathlib import Path

from tools.write_readme import readme

ROOT = Path(__file__).resolve().parents[1]


def test_the_dag_and_the_tables_are_those_of_the_committed_files() -> None:
    text = (ROOT / "README.md").read_text()
    assert readme(text) == text, "run: make report"
