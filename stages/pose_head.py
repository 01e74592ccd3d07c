"""3D joints from L_3D, with the labels of one subject.

The encoder is frozen: the head sees embeddings alone. Nothing is chosen here on anybody's labels but
those it trains on; stage validation says what it does on held-out blocks and on other training subjects.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np

    from geobody.data.crops import CropShards
    from geobody.data.embeddings import read_l3d
    from geobody.data.labels import split_labels
    from geobody.models.pose_head import save_pose_head
    from geobody.models.pose_head_training import train_pose_head

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
    return f"{settings.kind} head from {len(split.train)} labelled images"


if __name__ == "__main__":
    run("pose_head", main, spreads=True)
