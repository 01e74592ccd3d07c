"""The self-supervised encoder: one view of a person drawn from another, or whatever `encdec.arm` learns.

It learns from the unlabelled views of the training subjects alone: images, masks, camera rotations, and
which images show the same person and instant. What it reaches on held-out instants of theirs is for
stage validation to say.
"""

from stages import Job, run


def main(job: Job) -> str:
    from pathlib import Path

    from geobody.data.crops import CropShards
    from geobody.models.arm import LossWeights
    from geobody.models.encoder_decoder_training import Recipe, train_encoder_decoder
    from geobody.training.checkpoint import save_weights

    settings, training = job.params.encdec, job.params.training
    crops = CropShards.open(job.inputs["crops"])
    network = train_encoder_decoder(
        crops,
        subjects=job.params.held_out.taught(crops.train_subjects),
        arm=settings.arm,
        track=training.track,
        feature_loss=settings.feature_loss,
        feature_weights=Path(settings.feature_weights),
        recipe=Recipe.from_params(settings.model_dump()),
        weights=LossWeights.from_params(settings.model_dump()),
        held_out_fraction=settings.held_out_fraction,
        schedule=settings.schedule(),
        seed=job.params.seed,
        precision=training.precision,
        threads=training.threads,
        device=training.device,
        scratch=job.scratch,
        curves=job.outputs["curves"],
    )
    save_weights(job.outputs["model"], network, network.config)
    steps = settings.steps if network.trained else 0
    return f"arm {settings.arm} ({training.track}), {steps} steps of {settings.batch_size} images"


if __name__ == "__main__":
    run("encdec", main, spreads=True)
