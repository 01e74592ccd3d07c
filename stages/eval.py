"""Every metric and every control on the test subjects, with pictures; shape on further bodies too.

Predictions are made first and kept as a table; all numbers come from that table at the precision
in which it is stored. theta and beta of the synthetic set are read here and nowhere else.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np
    import torch
    from pytorch3d.transforms import axis_angle_to_matrix

    from geobody.body.model import BodyModel
    from geobody.data.crops import CropShards
    from geobody.data.embeddings import read_l3d, read_lapp
    from geobody.data.prior_poses import read_prior_poses
    from geobody.errors import DataError
    from geobody.evaluation import evaluate
    from geobody.models.encoder_decoder import embed, load_encoder_decoder
    from geobody.models.pose_head import load_pose_head
    from geobody.models.prior import load_prior
    from geobody.models.prior_training import prior_auc, spread_sample
    from geobody.predictions import Predictions, find_truth, gather
    from geobody.report.action_table import write_action_table
    from geobody.report.eval_pictures import PICTURES, draw_pictures
    from geobody.report.metrics_json import write_json
    from geobody.rolled import rolled_errors
    from geobody.views import silhouette_iou, some_instants, view_quality

    settings = job.params.eval
    torch.set_num_threads(job.params.training.threads)
    torch.use_deterministic_algorithms(True)
    shards = CropShards.open(job.inputs["crops"])
    rows = shards.rows(split="test")
    if not len(rows):
        raise DataError(
            job.inputs["crops"], "holds no test images", "mend params.yaml: dataset.test_subjects"
        )
    body, prior = BodyModel.load(job.inputs["body"]), load_prior(job.inputs["gan_prior"])
    network = load_encoder_decoder(job.inputs["encdec"])
    truth = find_truth(job.inputs["manifest"])

    def predict(some: np.ndarray) -> Predictions:
        return gather(
            shards=shards,
            rows=some,
            l3d=read_l3d(job.inputs["embeddings"], rows=len(shards)),
            lapp=read_lapp(job.inputs["embeddings"], rows=len(shards)),
            models={name: job.inputs[name] for name in ("pose_head", "controls", "smpl_regressor")},
            body=body,
            truth=truth,
        )

    predictions = predict(rows)
    more = shards.rows(split="evaluation")
    further = predict(more) if len(more) else Predictions.none()
    place = np.full(len(shards), -1)
    place[rows] = np.arange(len(rows))  # row of the shards -> row of the predictions

    views = shards.views(split="test")
    if len(views):
        chosen = some_instants(views, settings.silhouette_instants)
        seen, unseen = silhouette_iou(
            shards=shards,
            views=chosen,
            body=body,
            rotations=predictions.rotations("pred")[place[chosen]],
            betas=predictions.betas("pred")[place[chosen]],
        )
        predictions.columns["iou_input"][place[chosen]] = seen
        predictions.columns["iou_others"][place[chosen]] = unseen
        if predictions.has_truth:
            single = chosen.reshape(-1, 1)
            predictions.columns["iou_true_body"][place[single]], _ = silhouette_iou(
                shards=shards,
                views=single,
                body=body,
                rotations=predictions.rotations("true")[place[single]],
                betas=predictions.betas("true")[place[single]],
            )
        chosen = some_instants(views, settings.view_instants)
        quality = view_quality(
            shards=shards, network=network, source=chosen.ravel(), target=np.roll(chosen, -1, axis=1).ravel()
        )
        for name, values in quality.items():
            predictions.columns[name][place[chosen.ravel()]] = values

    metrics = evaluate(predictions, further=further, body=body, prior=prior)
    unseen_poses = read_prior_poses(job.inputs["prior_poses"], split="val")
    body_pose, betas = spread_sample(
        axis_angle_to_matrix(torch.from_numpy(unseen_poses.body_pose)),
        torch.from_numpy(unseen_poses.betas),
        limit=settings.prior_poses,
        seed=0,
    )
    metrics["pose"]["rolled"] = rolled_errors(
        load_encoder_decoder(job.inputs["encoder"]),
        load_pose_head(job.inputs["pose_head"]),
        shards,
        some_instants(views, settings.rolled_instants).ravel() if len(views) else rows,
    )
    metrics["prior"] = {"auc": prior_auc(prior, body_pose, betas, seed=0), "poses": len(betas)}
    predictions.write(job.outputs["predictions"])
    further.write(job.outputs["evaluation_bodies"])
    write_json(job.outputs["metrics"], metrics)
    write_action_table(job.outputs["by_action"], metrics)

    draw_pictures(
        {name: job.outputs[name] for name in PICTURES},
        shards=shards,
        rows=rows,
        views=views,
        predictions=predictions,
        metrics=metrics,
        l3d=embed(network, shards, rows)[0],
        network=network,
        body=body,
    )
    pose, mean = metrics["pose"]["n_mpjpe_17_mm"], metrics["controls"]["mean_pose"]["n_mpjpe_17_mm"]
    said = f"{len(rows)} test images; N-MPJPE {pose:.0f} mm (mean pose {mean:.0f})"
    if predictions.has_truth:
        said += f"; PVE {metrics['smpl']['pve_mm']:.0f} mm (mean body {metrics['controls']['mean_body']['pve_mm']:.0f})"
    return said


if __name__ == "__main__":
    run("eval", main)
