"""3D joints with the labels of one subject: a head on the frozen encoder, or both tuned as one.

Nothing is chosen here on anybody's labels but those it trains on; stage validation says what it does on held-out
blocks and on other training subjects. It writes the head and the encoder that the head is for, which is the
one of stage encdec when that stays frozen; tuned as one they start from it, or from scratch.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np

    from geobody.data.crops import CropShards
    from geobody.data.labels import split_labels
    from geobody.errors import ParamsError
    from geobody.models.encoder_decoder import embed, load_encoder_decoder, new_encoder_decoder
    from geobody.models.pose_batches import Augmentation
    from geobody.models.pose_head import PoseHead, save_pose_head
    from geobody.models.pose_head_training import train_pose_head
    from geobody.models.pose_tuning import TuningRecipe, tune, unlabelled_views
    from geobody.training.checkpoint import save_weights
    from geobody.training.determinism import make_fabric

    settings, tuning, training = job.params.pose_head, job.params.tuning, job.params.training
    labels, held_out = job.params.labels, job.params.held_out
    held_out.require_absent(labels.subjects)
    shards = CropShards.open(job.inputs["crops"])
    tuned = settings.kind in ("fine_tuned", "semi_supervised")
    if tuned and tuning.start == "scratch":
        size = shards.crop_size_px
        arm = new_encoder_decoder(
            arm="scratch", crop_size_px=size, track=training.track, seed=job.params.seed
        )
    else:
        arm = load_encoder_decoder(job.inputs["encdec"])
        arm.require_crop_size(shards.crop_size_px, job.inputs["encdec"])
    split = split_labels(
        shards.table,
        subjects=labels.subjects,
        fraction=labels.fraction,
        held_out_fraction=labels.held_out_fraction,
    )
    unlabelled = np.zeros((0, 0), np.int64)
    if settings.kind == "semi_supervised":
        unlabelled = unlabelled_views(shards, split, subjects=held_out.taught(shards.train_subjects))
        if not len(unlabelled):
            raise ParamsError(
                "params.yaml: pose_head.kind: value 'semi_supervised': no training subject has an unlabelled "
                "instant that all cameras saw; use fine_tuned, or mend labels or held_out.subjects"
            )
    if tuned:
        network = tune(
            arm,
            crops=shards,
            labelled=split.train,
            unlabelled_views=unlabelled,
            recipe=TuningRecipe(
                schedule=tuning.schedule(),
                **tuning.beside_schedule("start"),
                **job.params.pose_loss.model_dump(),
                augmentation=Augmentation(**job.params.augmentation.model_dump()),
            ),
            seed=job.params.seed,
            precision=training.precision,
            threads=training.threads,
            device=training.device,
            scratch=job.scratch,
            curves=job.outputs["curves"],
        )
        arm, config = network.arm, network.head_config
        head: PoseHead = network.head()
    else:
        fabric = make_fabric(precision="32-true", threads=training.threads, device=training.device)
        l3d, _ = embed(arm.to(fabric.device), shards, split.train)
        head, config = train_pose_head(
            l3d=l3d,
            joints_mm=shards.table["joints_mm"][split.train].astype(np.float32),
            R_world_to_crop=shards.table["R_world_to_crop"][split.train],
            rows=np.arange(len(split.train)),
            seed=job.params.seed,
            precision=training.precision,
            threads=training.threads,
            device=training.device,
            scratch=job.scratch,
            curves=job.outputs["curves"],
            schedule=settings.schedule(),
            **(settings.beside_schedule() | ({} if arm.equivariant else {"turn_share": 0.0})),
        )
    save_weights(job.outputs["encoder"], arm, arm.config)
    save_pose_head(job.outputs["model"], head, config)
    beside = f" and {unlabelled.size} unlabelled ones" if unlabelled.size else ""
    return f"{settings.kind} from {len(split.train)} labelled images{beside}"


if __name__ == "__main__":
    run("pose_head", main, spreads=True)
