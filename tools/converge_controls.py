"""Trains the control CNNs to convergence and writes how hard the data set is: metrics/tables/convergence.csv.

``make convergence`` calls it after ``make repro``; it takes about a quarter of an hour on two cores, and
resumes. The default profile's controls stop earlier, so their ratios say less of the data than of the budget.
"""

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from geobody.threads import pin_threads  # noqa: E402
from tools.data_hash import crops_hash  # noqa: E402

STEPS = 8000
TABLE = Path("metrics/tables/convergence.csv")
SCRATCH = Path(".scratch/convergence")
COLUMNS = ("control", "labels", "steps", "batch_size", "seed", "n_mpjpe_17_mm", "ratio", "of", "crops")


def main() -> None:
    import numpy as np
    import torch

    from geobody.config import load_params
    from geobody.data.crops import CropShards
    from geobody.data.labels import label_splits
    from geobody.models.controls import apply_cnn, mean_pose
    from geobody.models.pose_batches import Augmentation
    from geobody.models.pose_cnn import PoseCNN
    from geobody.models.pose_cnn_training import CnnRecipe, train_cnns
    from geobody.report.pose_report import pose_report

    params = load_params(Path("params.yaml"))
    crops = Path("data/crops")
    shards = CropShards.open(crops)
    recipe = CnnRecipe(
        schedule=replace(params.controls.schedule(), steps=STEPS),
        **params.pose_loss.model_dump(),
        # Crops as they are: how hard the set is, not how well a network bears crops that are off.
        augmentation=Augmentation(**params.augmentation.model_dump() | {"shift_std": 0.0, "zoom_std": 0.0}),
        track=params.training.track,
    )
    splits = label_splits(shards.table, **params.held_out.labels(params.labels))
    SCRATCH.mkdir(parents=True, exist_ok=True)
    states = train_cnns(
        crops=crops,
        rows={name: split.train for name, split in splits.items()},
        recipes=dict.fromkeys(splits, recipe),
        seed=params.seed,
        precision=params.training.precision,
        device=params.training.device,
        scratch=SCRATCH,
        curves=SCRATCH / "curves.csv",
    )
    test = shards.rows(split="test")
    joints_mm = shards.table["joints_mm"].astype(np.float32)
    truth = joints_mm[test]
    torch.set_num_threads(params.training.threads)
    predicted = {"mean_pose": np.broadcast_to(mean_pose(joints_mm[splits["cnn_s1"].train]), truth.shape)}
    for name, state in states.items():
        network = PoseCNN(crop_size_px=shards.crop_size_px, track=recipe.track)
        network.load_state_dict(state)
        predicted[name] = apply_cnn(network.eval(), shards.images[test], shards.masks_diff[test])
    errors = {name: pose_report(poses, truth)["n_mpjpe_17_mm"] for name, poses in predicted.items()}

    crops_md5 = crops_hash((ROOT / "dvc.lock").read_text())
    rows, beside = [], {"cnn_s1": "mean_pose", "cnn_all": "cnn_s1"}
    for name, error in errors.items():
        labels = params.labels.ceiling_subjects if name == "cnn_all" else params.labels.subjects
        trained = [STEPS, recipe.schedule.batch_size, params.seed] if name in states else ["", "", ""]
        of = beside.get(name, "")
        ratio = f"{error / errors[of]:.3f}" if of else ""
        rows.append(
            [
                name,
                "+".join(f"S{subject}" for subject in labels),
                *trained,
                f"{error:.1f}",
                ratio,
                of,
                crops_md5,
            ]
        )
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    temporary = TABLE.with_name(f".tmp-{TABLE.name}")
    with temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    os.replace(temporary, TABLE)
    print(TABLE.read_text(), end="")


if __name__ == "__main__":
    pin_threads()
    main()
