"""DVC's experiments: each runs the code of its own copy, and what differs between two of them is shown."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline_types import Copy, Run, git

pytestmark = pytest.mark.slow

HOOK = "    write_json(job.outputs["
"""A line of stages/eval.py, before which a test has it write down which code ran and where it was imported from."""
ADDED = {"rev", "filename", "field"}
"""What DVC writes into each row that it draws, beside the row's own columns."""


def mark(repository: Path, number: int) -> None:
    """Lets the stage ``eval`` of the working tree say ``number`` in its metrics; 0: what it said before."""
    page = repository / "stages/eval.py"
    text = git(repository, "show", "HEAD:stages/eval.py")
    assert text.count(HOOK) == 1
    page.write_text(text.replace(HOOK, f'    metrics["code"] = {number}\n{HOOK}') if number else text)
    module = repository / "src/geobody/views.py"
    text = git(repository, "show", "HEAD:src/geobody/views.py")
    module.write_text(text + f"# {number}\nMARK = {number}\n" if number else text)
    if number:
        page.write_text(page.read_text().replace('metrics["code"] =', 'metrics["module"] = __import__('
                        '"geobody.views", fromlist=["MARK"]).MARK\n    metrics["code"] ='))  # fmt: skip


@pytest.fixture(scope="module")
def repository(copy_of_tiny: Copy, python_m: Run) -> Path:
    """A committed copy with three experiments: of the queue, of a temporary copy and of the workspace."""
    repository = copy_of_tiny("experiments")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Run the tiny profile")

    def dvc(*command: str) -> None:
        done = python_m(repository, "dvc", *command, GIT_AUTHOR_NAME="geobody", GIT_AUTHOR_EMAIL="geobody@localhost",
                        GIT_COMMITTER_NAME="geobody", GIT_COMMITTER_EMAIL="geobody@localhost")  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    mark(repository, 1)
    dvc("exp", "run", "--queue", "--name", "queued", "-S", "eval.view_instants=18")
    mark(repository, 2)
    dvc("exp", "run", "--temp", "--name", "temporary", "-S", "eval.view_instants=17")
    mark(repository, 3)
    dvc("exp", "run", "--run-all")
    mark(repository, 0)
    dvc("exp", "run", "--name", "here", "-S", "tuning.learning_rate=1e-5")
    return repository


def said(repository: Path, revision: str) -> dict[str, Any]:
    return json.loads(git(repository, "show", f"{revision}:metrics/eval.json"))


def points(python_m: Run, repository: Path, *revisions: str) -> dict[str, dict[str, list[dict[str, str]]]]:
    """File -> revision -> rows of every curve and table that ``dvc plots diff`` shows of ``revisions``."""
    done = python_m(repository, "dvc", "plots", "diff", *revisions, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[dict[str, str]]]] = {}
    for name, plots in json.loads(done.stdout)["data"].items():
        for plot in plots:
            if plot["type"] == "vega":
                for row in plot["content"]["data"]["values"]:
                    written = {key: value for key, value in row.items() if key not in ADDED}
                    found.setdefault(name, {}).setdefault(row["rev"], []).append(written)
    return found


def experiment(repository: Path, name: str) -> str:
    (found,) = (
        line.split()[0]
        for line in git(repository, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
        if line.endswith(f"/{name}") and "refs/exps/" in line
    )
    return found


@pytest.mark.parametrize(("name", "number"), [("queued", 1), ("temporary", 2)])
def test_an_experiment_runs_the_code_of_its_own_copy(repository: Path, name: str, number: int) -> None:
    metrics = said(repository, experiment(repository, name))
    assert (metrics["code"], metrics["module"]) == (number, number)


def test_the_workspace_runs_its_own_code(repository: Path) -> None:
    assert "code" not in said(repository, experiment(repository, "here"))


def test_an_exponent_is_a_number_everywhere(repository: Path, python_m: Run) -> None:
    done = python_m(repository, "dvc", "params", "diff", "HEAD", experiment(repository, "here"), "--json")
    ((key, change),) = json.loads(done.stdout)["params.yaml"].items()
    assert (key, change["old"], change["new"]) == ("tuning.learning_rate", 2.5e-3, 1e-5)
    program = (
        "from pathlib import Path; from geobody.config import load_params;"
        "print(repr(load_params(Path('params.yaml')).tuning.learning_rate))"
    )
    environment = {"PYTHONPATH": str(repository / "src")}
    read = subprocess.check_output(
        [sys.executable, "-c", program], cwd=repository, env=environment, text=True
    )
    assert read == "1e-05\n"
    lock = git(repository, "show", f"{experiment(repository, 'here')}:dvc.lock")
    assert "learning_rate: 1e-05\n" in lock


def test_experiments_are_shown_with_what_they_changed(repository: Path, python_m: Run) -> None:
    done = python_m(repository, "dvc", "exp", "show", "--json")
    shown = {
        exp["revs"][0]["name"]: exp["revs"][0]["data"]
        for baseline in json.loads(done.stdout)
        for exp in baseline.get("experiments") or []
    }
    assert set(shown) == {"queued", "temporary", "here"}
    assert shown["queued"]["params"]["params.yaml"]["data"]["eval"]["view_instants"] == 18
    assert shown["queued"]["metrics"]["metrics/eval.json"]["data"]["code"] == 1


def test_metrics_params_and_plots_differ_between_two_revisions(repository: Path, python_m: Run) -> None:
    here = experiment(repository, "here")
    done = python_m(repository, "dvc", "metrics", "diff", "HEAD", here, "--json")
    changed = json.loads(done.stdout)
    assert set(changed) == {
        f"metrics/{name}.json" for name in ("embeddings", "eval", "eval_crops", "pose_head", "smpl_regressor")
    }
    change = changed["metrics/eval.json"]["pose.mpjpe_17_mm"]
    assert change["diff"] == pytest.approx(change["new"] - change["old"]) != 0
    curves = "metrics/curves/pose_head.csv"
    drawn = points(python_m, repository, "HEAD", here)[curves]
    for revision in ("HEAD", here):
        committed = list(csv.DictReader(io.StringIO(git(repository, "show", f"{revision}:{curves}"))))
        assert drawn[revision] == committed
    assert len(drawn["HEAD"]) == len(drawn[here]) > 0
    assert [row["total"] for row in drawn["HEAD"]] != [row["total"] for row in drawn[here]]


@pytest.fixture
def clean(repository: Path) -> Iterator[Path]:
    """The repository without what the last experiment left in its workspace."""
    git(repository, "stash", "--quiet", "--include-untracked")
    yield repository
    git(repository, "stash", "pop", "--quiet")


@pytest.mark.parametrize("kind", ["metrics", "params"])
def test_a_clean_tree_has_no_differences(clean: Path, python_m: Run, kind: str) -> None:
    done = python_m(clean, "dvc", kind, "diff")
    assert (done.returncode, done.stdout) == (0, "")


def test_of_a_clean_tree_the_plots_are_those_of_the_workspace_alone(clean: Path, python_m: Run) -> None:
    done = python_m(clean, "dvc", "plots", "diff")
    assert done.returncode == 0, done.stderr
    made = clean / "dvc_plots" / "index.html"
    assert done.stdout == f"{made.resolve().as_uri()}\n"
    assert set(re.findall(r'"rev": "([^"]*)"', made.read_text())) == {"workspace"}
    for revisions in points(python_m, clean).values():
        assert set(revisions) == {"workspace"}


def test_apply_brings_an_experiment_with_its_code_into_the_workspace(repository: Path, python_m: Run) -> None:
    done = python_m(repository, "dvc", "exp", "apply", "temporary")
    assert done.returncode == 0, done.stderr
    assert "view_instants: 17\n" in (repository / "params.yaml").read_text()
    assert "MARK = 2\n" in (repository / "src/geobody/views.py").read_text()
    done = python_m(repository, "dvc", "repro", "--dry")
    assert "Running stage" not in done.stdout, done.stdout
