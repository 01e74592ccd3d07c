"""What each network does on the training subjects: held-out blocks, and people whose labels it did not see.

A stage of its own, so that a change to a metric trains nothing anew. It chooses nothing; the test subjects
are left to eval.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np

    from geobody.body.model import BodyModel, read_body
    from geobody.data.crops import CropShards
    from geobody.data.embeddings import read_l3d, read_lapp
    from geobody.data.labels import label_splits, report_groups
    from geobody.models.regressor import load_regressor
    from geobody.models.regressor_report import RegressorReport
    from geobody.report.metrics_json import write_json
    from geobody.training.determinism import make_fabric
    from geobody.validation import validate_controls, validate_encoder_decoder, validate_pose_head

    labels, training = job.params.labels, job.params.training
    make_fabric(precision="32-true", threads=training.threads, device="cpu")
    shards = CropShards.open(job.inputs["crops"])
    l3d = read_l3d(job.inputs["embeddings"], rows=len(shards))
    lapp = read_lapp(job.inputs["embeddings"], rows=len(shards))
    splits = label_splits(shards.table, **job.params.held_out.labels(labels))
    split, subjects = splits["cnn_s1"], labels.subjects

    views = validate_encoder_decoder(
        job.inputs["encdec"],
        shards=shards,
        held_out_fraction=job.params.encdec.held_out_fraction,
        figure=job.outputs["encdec_figure"],
    )
    write_json(job.outputs["encdec_metrics"], views)
    head = validate_pose_head(job.inputs["pose_head"], shards=shards, l3d=l3d, split=split, subjects=subjects)
    write_json(job.outputs["pose_head_metrics"], head)
    controls = validate_controls(job.inputs["controls"], shards=shards, splits=splits, subjects=subjects)
    write_json(job.outputs["controls_metrics"], controls)

    report = RegressorReport(
        shards=shards,
        l3d=l3d,
        lapp=lapp,
        body=BodyModel(arrays=read_body(job.inputs["body"])),
        regressor=load_regressor(job.inputs["smpl_regressor"]),
    )
    groups = report_groups(shards.table, split, subjects=subjects)
    bodies = {name: report.errors(rows) for name, rows in groups.items()}
    write_json(job.outputs["smpl_regressor_metrics"], bodies)
    report.draw(job.outputs["smpl_regressor_figure"], rows=np.concatenate(list(groups.values())[1:]))

    errors = {"head": head, "cnn_s1": controls["cnn_s1"], "body": bodies}
    said = ", ".join(
        f"{name} {found['labelled_held_out']['n_mpjpe_17_mm']:.0f}" for name, found in errors.items()
    )
    return f"N-MPJPE in mm on held-out blocks of the labelled: {said}"


if __name__ == "__main__":
    run("validation", main)
