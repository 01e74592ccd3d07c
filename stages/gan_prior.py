"""An adversarial prior on the pose and the shape of a body.

Discriminators on rotation matrices (each joint, all joints, the shape; never the root) learn to
tell poses of the SURREAL-layout set from a generator's, and from training poses with noise or
joints of other poses. SURREAL's validation split, of other takes, says how well they do.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np
    import torch
    from pytorch3d.transforms import axis_angle_to_matrix

    from geobody.data.prior_poses import read_prior_poses
    from geobody.data.surreal import SurrealPoses
    from geobody.models.prior import PosePrior
    from geobody.models.prior_training import (
        adversarial_step,
        mirror,
        prior_report,
    )
    from geobody.report.metrics_json import write_json
    from geobody.report.prior_figure import prior_figure
    from geobody.training.checkpoint import save_weights
    from geobody.training.determinism import make_fabric, seeded
    from geobody.training.loop import RowSampler, fit

    settings, training, seed = job.params.gan_prior, job.params.training, job.params.seed
    fabric = make_fabric(precision=training.precision, threads=training.threads, device=training.device)

    def tensors(poses: SurrealPoses) -> tuple[torch.Tensor, torch.Tensor]:
        rotations = axis_angle_to_matrix(torch.from_numpy(poses.body_pose))
        return rotations.to(fabric.device), torch.from_numpy(poses.betas).to(fabric.device)

    train = read_prior_poses(job.inputs["prior_poses"])
    unseen = read_prior_poses(job.inputs["prior_poses"], split="val")
    body_pose, betas = tensors(train)
    body_pose, betas = torch.cat((body_pose, mirror(body_pose))), torch.cat((betas, betas))

    with seeded(seed, "gan_prior"):
        prior = PosePrior(
            joint_units=settings.joint_units,
            pose_units=settings.pose_units,
            shape_units=settings.shape_units,
            generator_units=settings.generator_units,
        ).to(fabric.device)
    prior.fit_statistics(body_pose, betas)
    fit(
        modules={"discriminator": prior.discriminators, "generator": prior.generator},
        loss_step=adversarial_step(
            prior,
            body_pose,
            betas,
            corrupted_weight=settings.corrupted_weight,
            moment_weight=settings.moment_weight,
            noise_deg=(settings.noise_min_deg, settings.noise_max_deg),
        ),
        sampler=RowSampler(np.arange(len(betas)), seed),
        schedule=settings.schedule(),
        seed=seed,
        fabric=fabric,
        scratch=job.scratch,
        curves=job.outputs["curves"],
        desc="gan_prior",
    )
    prior.freeze()
    report = prior_report(prior, seen=tensors(train), unseen=tensors(unseen), seed=seed)
    report |= {
        "train_poses": len(train),
        "val_poses": len(unseen),
        "val_sequences": len(unseen.sequences),
    }
    save_weights(job.outputs["model"], prior, prior.config)
    write_json(job.outputs["metrics"], report)
    prior_figure(job.outputs["figure"], prior, *tensors(unseen), seed=seed)
    auc = report["auc"]
    return (
        f"prior from {len(train)} poses; AUC on {len(unseen)} unseen ones: "
        f"{auc['shuffled']:.2f} shuffled joints, {auc['generator']:.2f} generator, "
        f"{auc['noise_10']:.2f} noise of 10 deg"
    )


if __name__ == "__main__":
    run("gan_prior", main, spreads=True)
