"""The commands that README.md and docs/ show do what the pages say: they run, in order, on the tiny profile.

Commands stand in ``sh`` blocks, or behind ``$`` in ``console`` blocks. ``sh no-run: REASON`` marks what cannot run
here; its syntax is checked all the same.
"""

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline_types import Copy, git
from tools.smoke import ROOT, stage_environment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HOW_TO = (
    "arms",
    "change_a_param",
    "cluster",
    "compare_branches",
    "predict",
    "queue_experiments",
    "resume",
    "share",
)
LONGEST = 80  # lines of a printed page
LIMIT_S = 1200  # for one page, on a machine that does much else

NOBODY = {
    f"GIT_{who}_{what}": "geobody@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


@dataclass(frozen=True)
class Block:
    """The commands of one fenced block; ``reason`` says why they cannot run here, or is empty."""

    commands: str
    runs: bool
    reason: str


def blocks(page: Path) -> list[Block]:
    """All blocks of a page that hold commands."""
    found = []
    for info, body in re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        language, _, rest = info.partition(" ")
        if language == "console":
            commands = [line.removeprefix("$ ") for line in body.splitlines() if line.startswith("$ ")]
            found.append(Block("\n".join(commands), not rest, rest.partition(": ")[2]))
        elif language == "sh":
            found.append(Block(body, not rest, rest.partition(": ")[2]))
    return found


WITH_COMMANDS = [page for page in PAGES if any(block.runs for block in blocks(page))]


def by_name(page: Path) -> str:
    return page.stem


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the pages share, so that the second page to try a setting need not compute it again."""
    return tmp_path_factory.mktemp("results") / "cache"


def committed(repository: Path, cache: Path) -> Path:
    """The repository with the tiny profile committed, and its cache at ``cache``."""
    if not cache.exists():
        subprocess.run(["cp", "--archive", repository / ".dvc" / "cache", cache], check=True)
    (repository / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "Use the tiny profile")
    return repository


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=by_name)
def test_the_commands_run_in_order(page: Path, copy_of_tiny: Copy, results: Path) -> None:
    repository = committed(copy_of_tiny(), results)
    commands = "".join(f"{block.commands.rstrip()}\n" for block in blocks(page) if block.runs)
    said = repository.with_suffix(".log")
    with said.open("w") as log:
        shell = subprocess.Popen(
            ["bash", "-euxo", "pipefail", "-c", commands],
            cwd=repository, env={**stage_environment(), **NOBODY}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(timeout=LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # what a page leaves in the background
    assert code == 0, said.read_text()[-4000:]


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_the_other_commands_are_well_formed_and_say_why_they_do_not_run(page: Path) -> None:
    for block in blocks(page):
        done = subprocess.run(["bash", "-n", "-c", block.commands], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert block.runs != bool(block.reason), block


@pytest.mark.parametrize("name", HOW_TO)
def test_every_how_to_is_under_a_page_has_commands_and_is_in_the_readme(name: str) -> None:
    page = ROOT / "docs" / f"{name}.md"
    assert len(page.read_text().splitlines()) < LONGEST
    assert any(block.runs for block in blocks(page))
    assert f"(docs/{name}.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
