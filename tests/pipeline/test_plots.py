"""The pages of ``dvc plots`` hold every curve, bar and picture, and load nothing from a network."""

import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from geobody.paths import STAGES
from pipeline_types import Copy, Run, git
from tools.write_dvc_yaml import figures_of_the_study

CURVES = [path for spec in STAGES.values() for path in spec.curves.values()]
TABLES = [path for spec in STAGES.values() for path in spec.tables.values()]
FIGURES = [path for spec in STAGES.values() for path in spec.figures.values()] + figures_of_the_study()
BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)

needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


class Tags(HTMLParser):
    """Every tag of a page, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def links(self) -> list[str]:
        """What the page would load, or lead to."""
        return [value for _, attributes in self.found for name, value in attributes.items()
                if value and name in ("src", "href", "data", "action", "srcset")]  # fmt: skip

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.found)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def panels(repository: Path) -> int:
    """One for each number in a curve's row, one for each predictor in a table."""
    numbers = [set(rows(repository / path)[0]) - {"step", "network"} for path in CURVES]
    predictors = [{row["predictor"] for row in rows(repository / path)} for path in TABLES]
    return sum(map(len, numbers + predictors))


def page(python_m: Run, repository: Path, *command: str) -> Path:
    done = python_m(repository, "dvc", "plots", *command, "--out", "plots_page")
    assert done.returncode == 0, done.stderr
    return repository / "plots_page" / "index.html"


def drawn(page: Path) -> Tags:
    """The page's elements after its scripts ran in a browser that reaches nothing."""
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'browser'}", page.as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    body = dom[dom.index("<body>") :]
    assert "NaN" not in body
    assert "undefined" not in body
    return Tags(re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL))


def changed(repository: Path) -> Path:
    """The repository with its metrics committed, and another value in a curve and in a table since then."""
    git(repository, "add", "--all", "metrics")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "Run")
    for path, value in ((CURVES[0], "0.0123454"), (TABLES[0], "765.432")):
        file = repository / path
        head, first, *others = file.read_text().splitlines()
        cells = first.split(",")
        cells[head.split(",").index("mpjpe_17_mm" if "mpjpe_17_mm" in head else "total")] = value
        file.write_text("\n".join([head, ",".join(cells), *others]) + "\n")
    return repository


@pytest.mark.slow
def test_the_page_holds_all_data_and_loads_nothing_from_elsewhere(copy_of_tiny: Copy, python_m: Run) -> None:
    repository = copy_of_tiny()
    made = page(python_m, repository, "show")
    text = made.read_text()
    assert not re.search(r"https?:|//\w+\.\w", text)
    links = Tags(text).links()
    assert len(links) == len(FIGURES)
    for link in links:
        assert (made.parent / link).stat().st_size > 0
    for path in CURVES + TABLES:
        for row in rows(repository / path):
            for name, value in row.items():
                assert f'"{name}": "{value}"' in text


@pytest.mark.slow
def test_a_diff_holds_both_revisions(copy_of_tiny: Copy, python_m: Run) -> None:
    repository = changed(copy_of_tiny())
    text = page(python_m, repository, "diff", "HEAD").read_text()
    for value in ("0.0123454", "765.432"):
        assert text.count(f'"{value}"') == 1
    for revision in ("HEAD", "workspace"):
        assert text.count(f'src="static/{revision}_') == len(FIGURES)
        for path in CURVES + TABLES:
            assert re.search(rf'"rev": "{revision}"[^}}]*"filename": "{path}"', text)


@pytest.mark.slow
@needs_browser
def test_a_browser_without_network_draws_every_curve_and_bar(copy_of_tiny: Copy, python_m: Run) -> None:
    repository = copy_of_tiny()
    tags = drawn(page(python_m, repository, "show"))
    assert tags.count("svg") == panels(repository)
    assert tags.count("rect") == sum(len(rows(repository / path)) for path in TABLES)
    assert tags.count("img") == len(FIGURES)


@pytest.mark.slow
@needs_browser
def test_a_browser_draws_both_revisions_in_each_panel(copy_of_tiny: Copy, python_m: Run) -> None:
    repository = changed(copy_of_tiny())
    tags = drawn(page(python_m, repository, "diff", "HEAD"))
    assert tags.count("svg") == panels(repository)
    assert tags.count("rect") == 2 * sum(len(rows(repository / path)) for path in TABLES)
    assert tags.count("img") == 2 * len(FIGURES)


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("template", "tag"), [("simple", "svg"), ("linear", "svg"), ("confusion", "table")])
def test_other_templates_are_drawn_or_shown_as_numbers(
    copy_of_tiny: Copy, python_m: Run, template: str, tag: str
) -> None:
    made = page(python_m, copy_of_tiny(), "show", "metrics/curves/pose_head.csv", "--template", template)
    tags = drawn(made)
    assert tags.count(tag) == 1
