"""Which modules of this project a stage imports: DVC runs a stage again when one of them changes.

Found in the source, without importing anything. ``config``, ``paths`` and the modules around
them reach a stage as params and paths, not as results, so they are no dependencies.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"

NOT_RESULTS = frozenset(
    f"geobody.{name}" for name in ("config", "yaml12", "paths", "stage", "dependencies", "progress", "errors")
)
"""They sit in every closure, and no byte of an output depends on them beyond params and paths."""


def stage_modules(name: str) -> list[Path]:
    """The stage's page and the modules that it imports, directly or not, relative to the root; sorted."""
    page = ROOT / "stages" / f"{name}.py"
    found: set[Path] = set()
    waiting = [page]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        waiting.extend(_imported(path))
    return sorted(path.relative_to(ROOT) for path in found)


@cache
def _imported(path: Path) -> tuple[Path, ...]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    modules = {_file(name) for name in names if name.startswith("geobody.") and name not in NOT_RESULTS}
    return tuple(sorted(module for module in modules if module))


def _file(name: str) -> Path | None:
    """The module's file; packages' ``__init__`` hold a docstring alone and are left out."""
    path = SOURCE.joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None
