"""theta and beta from the embedding: joints of the labelled, silhouettes of all, the prior.

The encoder is frozen, and so is the prior unless ``smpl_regressor.prior`` says otherwise. Trained on the training
subjects alone; theta and beta of the people in the images are never read, those of the prior's set are. Stage
validation says what it does on held-out blocks and on subjects without labels.
"""

from stages import Job, run


def main(job: Job) -> str:
    from geobody.body.joints_only import joints_only
    from geobody.body.model import BodyModel, read_body
    from geobody.data.crops import CropShards
    from geobody.data.embeddings import read_l3d, read_lapp
    from geobody.data.labels import split_labels
    from geobody.data.prior_poses import read_prior_poses
    from geobody.models.mean_body import fit_mean_body
    from geobody.models.prior import load_prior
    from geobody.models.regressor_training import RegressorRecipe, last_losses, train_regressor
    from geobody.training.checkpoint import save_weights

    settings, labels, training = job.params.smpl_regressor, job.params.labels, job.params.training
    shards = CropShards.open(job.inputs["crops"])
    l3d = read_l3d(job.inputs["embeddings"], rows=len(shards))
    lapp = read_lapp(job.inputs["embeddings"], rows=len(shards))
    arrays = read_body(job.inputs["body"])
    body = BodyModel(arrays=arrays)
    split = split_labels(
        shards.table,
        subjects=labels.subjects,
        fraction=labels.fraction,
        held_out_fraction=labels.held_out_fraction,
    )
    recipe = RegressorRecipe(schedule=settings.schedule(), **settings.beside_schedule("threads"))
    real = read_prior_poses(job.inputs["prior_poses"])
    regressor, config = train_regressor(
        recipe=recipe,
        shards=shards,
        l3d=l3d,
        lapp=lapp,
        labelled=split.train,
        held_out=split.held_out,
        subjects=job.params.held_out.taught(shards.train_subjects),
        body=body,
        joint_body=BodyModel(arrays=joints_only(arrays)),
        prior=load_prior(job.inputs["gan_prior"]),
        start=fit_mean_body(
            body=body,
            body_pose=real.body_pose,
            poses_mm=shards.table["joints_mm"][split.train],
        ),
        seed=job.params.seed,
        precision=training.precision,
        threads=settings.threads,
        device=training.device,
        scratch=job.scratch,
        curves=job.outputs["curves"],
        real=real,
    )
    save_weights(job.outputs["model"], regressor, config)
    last = ", ".join(f"{term} {value:.3g}" for term, value in last_losses(job.outputs["curves"]).items())
    return f"{settings.steps} steps from {len(split.train)} labelled images; losses at the end: {last}"


if __name__ == "__main__":
    run("smpl_regressor", main, spreads=True)
