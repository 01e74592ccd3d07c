"""What needs no representation: mean pose, mean body, a CNN on S1, a CNN on all labels.

Every other number stands beside these. The CNNs get the augmentation of the strongest arm, one recipe
and equal steps. Errors on subjects whose labels a control did not see are only reported.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np
    import torch

    from geobody.body.model import BodyModel
    from geobody.data.crops import CropShards
    from geobody.data.labels import report_groups, split_labels
    from geobody.data.surreal import read_surreal
    from geobody.models.controls import apply_cnn, load_cnn, mean_pose, save_controls
    from geobody.models.mean_body import fit_mean_body
    from geobody.models.pose_cnn_training import CnnRecipe, train_cnns
    from geobody.report.metrics_json import write_json
    from geobody.report.pose_report import pose_report

    settings, labels, training = job.params.controls, job.params.labels, job.params.training
    shards = CropShards.open(job.inputs["crops"])
    splits = {
        name: split_labels(
            shards.table, subjects=subjects, fraction=fraction, held_out_fraction=labels.held_out_fraction
        )
        for name, subjects, fraction in (
            ("cnn_s1", labels.subjects, labels.fraction),
            ("cnn_all", labels.ceiling_subjects, 1.0),
        )
    }
    joints_mm = shards.table["joints_mm"].astype(np.float32)
    pose_mm = mean_pose(joints_mm[splits["cnn_s1"].train])
    torch.set_num_threads(training.threads)
    body = fit_mean_body(
        body=BodyModel.load(job.inputs["body"]),
        body_pose=read_surreal(job.inputs["surreal"], stride=job.params.prior.stride).body_pose,
        poses_mm=joints_mm[splits["cnn_s1"].train],
    )
    cnns = train_cnns(
        crops=job.inputs["crops"],
        rows={name: split.train for name, split in splits.items()},
        recipe=CnnRecipe(**settings.model_dump()),
        seed=job.params.seed,
        precision=training.precision,
        device=training.device,
        scratch=job.scratch,
        curves=job.outputs["curves"],
    )
    model = job.outputs["model"]
    config = {"crop_size_px": shards.crop_size_px, "dropout": settings.dropout}
    save_controls(model, cnns=cnns, cnn_config=config, pose_mm=pose_mm, body=body)

    groups = report_groups(shards.table, splits["cnn_s1"], subjects=labels.subjects)
    groups["ceiling_held_out"] = splits["cnn_all"].held_out
    report: dict[str, dict] = {"mean_pose": {}, **{name: {} for name in cnns}}
    for group, rows in groups.items():
        truth = joints_mm[rows]
        report["mean_pose"][group] = pose_report(np.broadcast_to(pose_mm, truth.shape), truth)
        for name in cnns:
            report[name][group] = pose_report(apply_cnn(load_cnn(model, name), shards.images[rows]), truth)
    for name, split in splits.items():
        report[name]["train_images"] = len(split.train)
    write_json(job.outputs["metrics"], report)
    said = ", ".join(f"{name} {report[name]['ceiling_held_out']['n_mpjpe_17_mm']:.0f}" for name in report)
    return f"N-MPJPE in mm on held-out blocks of the training subjects: {said}"


if __name__ == "__main__":
    run("controls", main)
