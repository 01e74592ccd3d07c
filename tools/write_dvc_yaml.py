"""Writes dvc.yaml: the table of geobody/paths.py, and the modules and packages that each stage imports.

``make dvc.yaml`` calls it; a test calls ``dvc_yaml`` and finds a stale file.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from geobody.dependencies import stage_modules  # noqa: E402
from geobody.paths import STAGES, StageSpec  # noqa: E402
from geobody.versions import VERSIONS_FILE, stage_versions  # noqa: E402

HEADER = "# Written by `make dvc.yaml` from src/geobody/paths.py and the imports of each stage.\n"
FIGURES_OF_THE_STUDY = ("metrics/figures/ablation.png", "metrics/figures/labels.png")


def dvc_yaml() -> str:
    """The text of dvc.yaml."""
    stages = HEADER + "stages:\n" + "".join(_stage(name, spec) for name, spec in STAGES.items())
    figures = "".join(f"  - {path}\n" for path in figures_of_the_study())
    return stages + ("plots:\n" + figures if figures else "")


def figures_of_the_study() -> list[str]:
    """Pictures for ``dvc plots`` that no stage writes: those that the study has drawn so far."""
    return [path for path in FIGURES_OF_THE_STUDY if (ROOT / path).is_file()]


def _stage(name: str, spec: StageSpec) -> str:
    body = [f'desc: "{spec.description}"', f"cmd: python -m stages.{name}", "deps:"]
    body += [f"  - {path}" for path in [*map(str, stage_modules(name)), *spec.inputs.values()]]
    body += ["params:", *(f"  - {section}" for section in spec.sections)]
    body += [f"  - {VERSIONS_FILE}:", *(f"      - {package}" for package in stage_versions(name))]
    body += ["outs:", *(f"  - {path}" for path in spec.outputs.values())] if spec.outputs else []
    if spec.metrics:
        body.append("metrics:")
        for path in spec.metrics.values():
            body += [f"  - {path}:", "      cache: false"]
    if spec.curves or spec.tables or spec.figures:
        body.append("plots:")
        for path in spec.curves.values():
            body += [f"  - {path}:", "      cache: false", "      x: step", "      template: curves"]
        for path in spec.tables.values():
            body += [f"  - {path}:", "      cache: false", "      x: action", "      y: n_mpjpe_17_mm"]
            body += ["      template: by_action"]
        for path in spec.figures.values():
            body += [f"  - {path}:", "      cache: false"]
    head = [f"  {name}:"]
    if spec.per:
        head += [f"    foreach: ${{{spec.per}}}", "    do:"]
    indent = " " * (6 if spec.per else 4)
    return "\n".join([*head, *(indent + line for line in body)]) + "\n"


if __name__ == "__main__":
    (ROOT / "dvc.yaml").write_text(dvc_yaml())
