"""Writes the parts of README.md that come from elsewhere: the DAG and every figure in a table.

``make report`` calls it; a test calls ``readme`` and finds a stale file. A part stands between
``<!-- NAME -->`` and ``<!-- end NAME -->``.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from geobody.config import load_params  # noqa: E402
from tools.smoke import stage_environment  # noqa: E402
from tools.study import collect, report  # noqa: E402
from tools.study.figure import FIGURE  # noqa: E402


def dag() -> str:
    """The DAG as a Mermaid diagram, from ``dvc dag``."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--mermaid"],
        cwd=ROOT, env=stage_environment(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    return f"```mermaid\n{done.stdout.strip()}\n```"


def poses() -> str:
    """3D pose on the test subjects, controls beside it."""
    metrics = _metrics("eval")
    rows = [
        ("mean pose of S1", metrics["controls"]["mean_pose"]),
        ("CNN, S1's labels, from scratch", metrics["controls"]["cnn_s1"]),
        ("**encoder + head, S1's labels and unlabelled views**", metrics["pose"]),
        ("body (SMPL regressor), S1's labels and poses of the prior's set", metrics["smpl"]),
        ("CNN, labels of all five training subjects", metrics["controls"]["cnn_all"]),
    ]
    names = ("mpjpe", "n_mpjpe", "p_mpjpe")
    lines = ["| S9 + S11, 17 joints, mm | MPJPE | N-MPJPE | P-MPJPE |", "|---|---|---|---|"]
    lines += [
        f"| {title} | " + " | ".join(f"{row[f'{name}_17_mm']:.1f}" for name in names) + " |"
        for title, row in rows
    ]
    params = load_params(ROOT / "params.yaml")
    sections = (params.encdec, params.tuning, params.controls)
    drawn, tuned, trained = (f"{p.steps:,} steps of {p.batch_size} images" for p in sections)
    start = "from scratch" if params.tuning.start == "scratch" else "after the pretext"
    head = f"{tuned} (encoder and head as one, {params.pose_head.kind.replace('_', '-')}, {start})"
    if params.pose_head.kind not in ("fine_tuned", "semi_supervised"):
        head = f"{params.pose_head.steps:,} steps (head, {params.pose_head.kind})"
    lines += [
        "",
        f"Trained for {head} and {trained} (each CNN, from scratch). The encoder-decoder that draws novel views: "
        f"{drawn}, no labels.",
    ]
    return "\n".join(lines)


def bodies() -> str:
    """The body on the test subjects, the mean body beside it, and the true one where it is no zero.

    Below them the thesis' configuration of the regressor beside ours, from the ablation.
    """
    metrics = _metrics("eval")
    smpl, mean = metrics["smpl"], metrics["controls"]["mean_body"]
    lines = ["| S9 + S11 | regressor | mean body | true body |", "|---|---|---|---|"]
    for title, key in (
        ("PVE, mm", "pve_mm"),
        ("PVE after Procrustes, mm", "p_pve_mm"),
        ("PVE of the T-pose, mm", "t_pve_mm"),
    ):
        beside = f"{mean[key]:.1f} " if key in mean else ""
        lines.append(f"| {title} | {smpl[key]:.1f} | {beside}| |")
    if "evaluation" in mean:  # absent until metrics of a set with such bodies are there
        ours, theirs = smpl["evaluation"], mean["evaluation"]
        lines.append(
            f"| PVE of the T-pose on {ours['bodies']} more bodies, mm | "
            f"{ours['t_pve_mm']:.1f} | {theirs['t_pve_mm']:.1f} | |"
        )
    root, iou = smpl["root_deg"], smpl["iou"]
    degrees = " / ".join(f"{root[name]:.1f}" for name in ("all", "facing", "away"))
    lines.append(f"| root orientation, median degrees: all / facing / away | {degrees} | | |")
    over = " / ".join(f"{smpl['root_over_90_pct'][name]:.1f}" for name in ("all", "facing", "away"))
    lines.append(f"| root orientation off by more than 90 degrees, %: all / facing / away | {over} | | |")
    views = " / ".join(f"{iou[name]:.2f}" for name in ("input", "others"))
    title = "silhouette IoU at the labelled root: input view / the three others"
    lines.append(f"| {title} | {views} | | {iou['true_body']:.2f} |")
    shares = (smpl[name] for name in ("implausible_pct", "implausible_true_pct"))
    lines.append("| implausible joint rotations, % | {:.2f} | | {:.2f} |".format(*shares))
    return "\n".join([*lines, "", _beside_the_thesis()])


def _beside_the_thesis() -> str:
    rows = collect.read(ROOT / "metrics" / "tables" / "ablation.csv")
    seeds = set.intersection(
        *({row["seed"] for row in rows if row["arm"] == arm} for arm in ("default", "thesis"))
    )

    def said(arm: str, name: str) -> str:
        values = [float(row[name]) for row in rows if row["arm"] == arm and row["seed"] in seeds]
        return f"{fmean(values):.1f} mm ({min(values):.1f} to {max(values):.1f})"

    return (
        "That is seed 0. The regressor's choices were compared on embeddings of the default before it had heat maps: "
        f"over {len(seeds)} seeds\nits PVE was {said('default', 'pve_mm')} there, that of the T-pose "
        f"{said('default', 't_pve_mm')}. With the\nthesis' outputs, joints, prior and silhouettes, and without what "
        "came later (rehearsal, turns, agreement, the far-reaching\nterm), the same regressor had, on the same "
        f"embeddings and for as many steps, a PVE of {said('thesis', 'pve_mm')}\n"
        "([ablation](docs/study.md#bodies-what-each-choice-of-the-regressor-is-worth))."
    )


def boxes() -> str:
    """Joints and body by what placed the crop."""
    metrics = _metrics("eval_crops")
    lines = [
        "| S9 + S11, 17 joints, MPJPE / N-MPJPE / P-MPJPE, mm | joints | body |",
        "|---|---|---|",
    ]
    off = 100 * load_params(ROOT / "params.yaml").eval_crops.box_off
    for title, way in (
        ("crop around the labelled root", "root"),
        ("by a box around the person", "box"),
        (f"by a box that is off by {off:.0f} %", "box_off"),
        ("the same, as it is first cut", "box_off_first_cut"),
    ):
        names = ("mpjpe_17_mm", "n_mpjpe_17_mm", "p_mpjpe_17_mm")
        cells = (" / ".join(f"{metrics[way][who][n]:.1f}" for n in names) for who in ("pose", "body"))
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    more = {
        who: metrics["box_off"][who]["n_mpjpe_17_mm"] / metrics["root"][who]["n_mpjpe_17_mm"] - 1
        for who in ("pose", "body")
    }
    said = (
        f"By a box that is off, the joints' N-MPJPE is {100 * more['pose']:.1f} % more than around the labelled root, "
        f"the body's {100 * more['body']:.1f} %; the goal is at most 5 %."
    )
    return "\n".join([*lines, "", said])


def others() -> str:
    """Novel views and the prior."""
    metrics = _metrics("eval")
    lines = ["| what | figure |", "|---|---|"]
    nvs, auc = metrics["nvs"], metrics["prior"]["auc"]
    if nvs["images"]:  # not every arm draws
        psnr = " / ".join(f"{nvs[f'psnr_{where}']:.1f}" for where in ("person", "crop"))
        ssim = " / ".join(f"{nvs[f'ssim_{where}']:.2f}" for where in ("person", "crop"))
        lines.append(f"| novel views, PSNR on the person / whole crop, dB | {psnr} |")
        lines.append(f"| novel views, SSIM on the person / whole crop | {ssim} |")
    fakes = {"generator": "the generator's", "shuffled": "shuffled joints"}
    fakes |= {f"noise_{degrees}": f"noise of {degrees} degrees" for degrees in (5, 10, 20, 30)}
    for name, title in fakes.items():
        lines.append(f"| prior: AUC of unseen poses against {title} | {auc[name]:.2f} |")
    return "\n".join(lines)


def study() -> str:
    """Arms and controls of equal training: on the test subjects, or until that was run on who chose among them.

    And the sweep over labels, once it was run.
    """
    rows = collect.read(ROOT / "metrics" / "tables" / "study.csv")
    parts = {row["part"] for row in rows}
    if "compare" in parts:
        found = report.table(rows, "compare")
    else:
        unseen = (
            "On a training subject whom none of these trainings saw; on S9 and S11 it is still to be made."
        )
        found = f"{unseen}\n\n{report.table(rows, 'screen')}"
    if "labels" in parts:
        picture = f"![Errors against the share of labels]({FIGURE.relative_to(ROOT)})"
        found += f"\n\nWith fewer of S1's labels:\n\n{report.table(rows, 'labels')}\n\n{picture}"
    return found


PARTS: dict[str, Callable[[], str]] = {
    "dag": dag,
    "poses": poses,
    "bodies": bodies,
    "boxes": boxes,
    "others": others,
    "study": study,
}


def readme(text: str) -> str:
    """``text`` with every part written anew."""
    for name, write in PARTS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"error: README.md: the part <!-- {name} --> must stand there once; add it")
        part = write()
        text = pattern.sub(lambda match, part=part: f"{match.group(1)}{part}\n{match.group(2)}", text)  # type: ignore[misc]
    return text


def _metrics(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "metrics" / f"{name}.json").read_text())


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(readme(file.read_text()))
