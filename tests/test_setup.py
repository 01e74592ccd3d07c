"""The set-up: a lock that pins everything and names no place, and a Makefile that lists itself."""

import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def locked() -> dict[str, str]:
    """Package -> its whole stanza in requirements.lock."""
    stanzas = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text())
    return {stanza.split("==")[0].lower(): stanza for stanza in stanzas if not stanza.startswith("#")}


def test_every_locked_package_has_one_version_and_hashes() -> None:
    packages = locked()
    assert len(packages) > 100
    for stanza in packages.values():
        head = stanza.split("\\\n")[0]
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;,*]+( ;.*)? ?", head), head
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", stanza), head


def test_the_lock_names_no_index_and_no_url() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(
        r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.M
    )


def test_what_pyproject_asks_for_is_locked_at_a_version_that_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    asked = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    packages = locked()
    for requirement in asked:
        name, _, pinned = requirement.partition("==")
        stanza = packages[re.sub(r"[-_.]+", "-", re.split(r"[<>=]", name)[0].lower())]
        assert not pinned or f"=={pinned} " in stanza


def test_make_help_has_a_line_for_every_target_that_the_readme_names() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"(?:^|`)make ([a-z.]+)", (ROOT / "README.md").read_text(), re.M))
    assert named
    for target in named:
        assert re.search(rf"^make {re.escape(target)} +\S", listed, re.M), target
