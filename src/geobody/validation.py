"""What trained networks do on training subjects: images that they saw, held-out blocks, unlabelled people.

Apart from the trainings, so that a change to a metric trains nothing anew. Nothing is chosen here, and no
image of a test subject is read.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geobody.data.crops import CropShards
from geobody.data.labels import LabelSplit, report_groups
from geobody.models.controls import apply_cnn, load_cnn, load_mean_pose
from geobody.models.encoder_decoder import load_encoder_decoder
from geobody.models.encoder_decoder_training import held_out_instants
from geobody.models.pose_head import apply_pose_head, load_pose_head
from geobody.report.novel_views import draw_novel_views, novel_view_metrics, spread
from geobody.report.pose_report import pose_report

FIGURE_ROWS = 6
CNNS = ("cnn_s1", "cnn_all")


def validate_encoder_decoder(
    model: Path, *, shards: CropShards, held_out_fraction: float, figure: Path
) -> dict[str, Any]:
    """PSNR and SSIM of novel views of held-out instants, by kind of view; draws some of them to ``figure``.

    With no held-out instant it measures nothing and draws others.
    """
    network = load_encoder_decoder(model)
    views = shards.views(split="train")
    held_out = held_out_instants(shards, fraction=held_out_fraction)
    kept = views[np.isin(shards.table["instant"][views[:, 0]], held_out)]
    draw_novel_views(figure, network, shards, spread(kept if len(kept) else views, FIGURE_ROWS))
    return {
        "nvs": {"held_out": novel_view_metrics(network, shards, kept)} if len(kept) else {},
        "weights": sum(parameter.numel() for parameter in network.parameters()),
    }


def validate_pose_head(
    model: Path, *, shards: CropShards, l3d: NDArray, split: LabelSplit, subjects: list[int]
) -> dict[str, Any]:
    """Errors of the pose head by group (see ``report_groups``), and how many images it learned from."""
    head = load_pose_head(model)
    joints_mm = shards.table["joints_mm"].astype(np.float32)
    errors = {
        group: pose_report(apply_pose_head(head, l3d[rows]), joints_mm[rows])
        for group, rows in report_groups(shards.table, split, subjects=subjects).items()
    }
    return {**errors, "train_images": len(split.train), "held_out_images": len(split.held_out)}


def validate_controls(
    model: Path, *, shards: CropShards, splits: dict[str, LabelSplit], subjects: list[int]
) -> dict[str, Any]:
    """Errors of the mean pose and of each CNN by group; ``splits`` has the labels of each CNN.

    Groups are those of ``cnn_s1``, and "ceiling_held_out", the blocks that ``cnn_all`` did not see.
    """
    pose_mm = load_mean_pose(model)
    networks = {name: load_cnn(model, name) for name in CNNS}
    joints_mm = shards.table["joints_mm"].astype(np.float32)
    groups = report_groups(shards.table, splits["cnn_s1"], subjects=subjects)
    groups["ceiling_held_out"] = splits["cnn_all"].held_out
    report: dict[str, dict[str, Any]] = {"mean_pose": {}, **{name: {} for name in CNNS}}
    for group, rows in groups.items():
        truth = joints_mm[rows]
        report["mean_pose"][group] = pose_report(np.broadcast_to(pose_mm, truth.shape), truth)
        for name, network in networks.items():
            report[name][group] = pose_report(
                apply_cnn(network, shards.images[rows], shards.masks_diff[rows]), truth
            )
    for name, split in splits.items():
        report[name]["train_images"] = len(split.train)
    return report
