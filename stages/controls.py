"""What needs no representation: mean pose, mean body, a CNN on S1, a CNN on all labels.

Every other number stands beside these. The CNNs get the augmentation of the strongest arm, one recipe and, unless
`controls.ceiling_steps` is set, equal steps. Stage validation says what they do on subjects whose labels they did not
see.
"""

from stages import Job, run


def main(job: Job) -> str:
    from dataclasses import replace

    import numpy as np
    import torch

    from geobody.body.model import BodyModel
    from geobody.data.crops import CropShards
    from geobody.data.labels import label_splits
    from geobody.data.prior_poses import read_prior_poses
    from geobody.models.controls import mean_pose, save_controls
    from geobody.models.mean_body import fit_mean_body
    from geobody.models.pose_batches import Augmentation
    from geobody.models.pose_cnn_training import CnnRecipe, train_cnns

    settings, labels, training = job.params.controls, job.params.labels, job.params.training
    shards = CropShards.open(job.inputs["crops"])
    splits = label_splits(shards.table, **job.params.held_out.labels(labels))
    joints_mm = shards.table["joints_mm"].astype(np.float32)
    pose_mm = mean_pose(joints_mm[splits["cnn_s1"].train])
    torch.set_num_threads(training.threads)
    body = fit_mean_body(
        body=BodyModel.load(job.inputs["body"]),
        body_pose=read_prior_poses(job.inputs["prior_poses"]).body_pose,
        poses_mm=joints_mm[splits["cnn_s1"].train],
    )
    recipe = CnnRecipe(
        schedule=settings.schedule(),
        **job.params.pose_loss.model_dump(),
        augmentation=Augmentation(**job.params.augmentation.model_dump()),
        track=training.track,
    )
    cnns = train_cnns(
        crops=job.inputs["crops"],
        rows={name: split.train for name, split in splits.items()},
        recipes={"cnn_s1": recipe, "cnn_all": replace(recipe, schedule=settings.ceiling_schedule())},
        seed=job.params.seed,
        precision=training.precision,
        device=training.device,
        scratch=job.scratch,
        curves=job.outputs["curves"],
    )
    config = {
        "crop_size_px": shards.crop_size_px,
        "track": training.track,
    }
    save_controls(job.outputs["model"], cnns=cnns, cnn_config=config, pose_mm=pose_mm, body=body)
    counts = " and ".join(str(len(split.train)) for split in splits.values())
    return f"mean pose, mean body, and CNNs of {settings.steps} steps from {counts} labelled images"


if __name__ == "__main__":
    run("controls", main)
