"""3D joints from L_3D, with the labels of one subject.

The encoder is frozen: the head sees embeddings alone. Nothing is chosen here on anybody's labels but
those it trains on; errors on the held-out blocks and on the other training subjects are only reported.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np

    from geobody.data.crops import CropShards
    from geobody.data.embeddings import read_l3d
    from geobody.data.labels import report_groups, split_labels
    from geobody.models.pose_head import apply_pose_head, save_pose_head
    from geobody.models.pose_head_training import train_pose_head
    from geobody.report.metrics_json import write_json
    from geobody.report.pose_report import pose_report

    settings, labels, training = job.params.pose_head, job.params.labels, job.params.training
    shards = CropShards.open(job.inputs["crops"])
    l3d = read_l3d(job.inputs["embeddings"], rows=len(shards))
    split = split_labels(
        shards.table,
        subjects=labels.subjects,
        fraction=labels.fraction,
        held_out_fraction=labels.held_out_fraction,
    )
    joints_mm = shards.table["joints_mm"].astype(np.float32)
    head, config = train_pose_head(
        l3d=l3d,
        joints_mm=joints_mm,
        R_world_to_crop=shards.table["R_world_to_crop"],
        rows=split.train,
        seed=job.params.seed,
        precision=training.precision,
        threads=training.threads,
        device=training.device,
        scratch=job.scratch,
        curves=job.outputs["curves"],
        **settings.model_dump(),
    )
    save_pose_head(job.outputs["model"], head, config)

    report = {
        group: pose_report(apply_pose_head(head, l3d[rows]), joints_mm[rows])
        for group, rows in report_groups(shards.table, split, subjects=labels.subjects).items()
    }
    counts = {"train_images": len(split.train), "held_out_images": len(split.held_out)}
    write_json(job.outputs["metrics"], {**report, **counts})
    held_out = report["labelled_held_out"]["n_mpjpe_17_mm"]
    return f"{settings.kind} head from {len(split.train)} labelled images, N-MPJPE {held_out:.0f} mm held out"


if __name__ == "__main__":
    run("pose_head", main, spreads=True)
