"""theta and beta from the embedding: joints of the labelled, silhouettes of all, the prior.

The encoder and the prior are frozen. Trained on the training subjects alone; theta and beta are never
read. Errors on the held-out blocks and on the training subjects without labels are only reported.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np

    from geobody.body.joints_only import joints_only
    from geobody.body.model import BodyModel, read_body
    from geobody.data.crops import CropShards
    from geobody.data.embeddings import read_l3d, read_lapp
    from geobody.data.labels import report_groups, split_labels
    from geobody.data.surreal import read_surreal
    from geobody.models.mean_body import fit_mean_body
    from geobody.models.prior import load_prior
    from geobody.models.regressor_report import RegressorReport
    from geobody.models.regressor_training import RegressorRecipe, last_losses, train_regressor
    from geobody.report.metrics_json import write_json
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
    recipe = RegressorRecipe(**settings.model_dump())
    regressor, config = train_regressor(
        recipe=recipe,
        shards=shards,
        l3d=l3d,
        lapp=lapp,
        labelled=split.train,
        held_out=split.held_out,
        body=body,
        joint_body=BodyModel(arrays=joints_only(arrays)),
        prior=load_prior(job.inputs["gan_prior"]),
        start=fit_mean_body(
            body=body,
            body_pose=read_surreal(job.inputs["surreal"], stride=job.params.prior.stride).body_pose,
            poses_mm=shards.table["joints_mm"][split.train],
        ),
        seed=job.params.seed,
        precision=training.precision,
        threads=training.threads,
        device=training.device,
        scratch=job.scratch,
        curves=job.outputs["curves"],
    )
    save_weights(job.outputs["model"], regressor, config)

    report = RegressorReport(shards=shards, l3d=l3d, lapp=lapp, body=body, regressor=regressor)
    groups = report_groups(shards.table, split, subjects=labels.subjects)
    errors = {name: report.errors(rows) for name, rows in groups.items()}
    write_json(job.outputs["metrics"], {"loss": last_losses(job.outputs["curves"]), **errors})
    report.draw(job.outputs["figure"], rows=np.concatenate(list(groups.values())[1:]))
    held_out = errors["labelled_held_out"]
    said = f"N-MPJPE {held_out['n_mpjpe_17_mm']:.0f} mm"
    if "iou_input" in held_out:
        said += f", silhouette IoU {held_out['iou_input']:.2f}"
    return f"{said} on held-out blocks of the labelled"


if __name__ == "__main__":
    run("smpl_regressor", main, spreads=True)
