"""The self-supervised encoder-decoder: one view of a person drawn from another.

It learns from the unlabelled views of the training subjects alone: images, masks, camera rotations, and
which images show the same person and instant. Held-out instants of theirs are only reported; the test
subjects are left to eval, so that nothing is chosen on them.
"""

from stages import Job, run

FIGURE_ROWS = 6


def main(job: Job) -> str:
    from pathlib import Path

    import numpy as np

    from geobody.data.crops import CropShards
    from geobody.models.arm import LossWeights
    from geobody.models.encoder_decoder_training import Recipe, held_out_instants, train_encoder_decoder
    from geobody.report.metrics_json import write_json
    from geobody.report.novel_views import draw_novel_views, novel_view_metrics, spread
    from geobody.training.checkpoint import save_weights

    settings, training = job.params.encdec, job.params.training
    crops = CropShards.open(job.inputs["crops"])
    network = train_encoder_decoder(
        crops,
        arm=settings.arm,
        track=settings.track,
        feature_loss=settings.feature_loss,
        feature_weights=Path(settings.feature_weights),
        recipe=Recipe(
            same_view_fraction=settings.same_view_fraction,
            colour_strength=settings.colour_strength,
            spoil_strength=settings.spoil_strength,
            background_fraction=settings.background_fraction,
            turn_deg=settings.turn_deg,
            appearance_from=settings.appearance_from,
        ),
        weights=LossWeights(
            mse=settings.mse_weight, feature=settings.feature_weight, mask=settings.mask_weight
        ),
        held_out_fraction=settings.held_out_fraction,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        clip_norm=settings.clip_norm,
        seed=job.params.seed,
        precision=training.precision,
        threads=training.threads,
        device=training.device,
        scratch=job.scratch,
        curves=job.outputs["curves"],
    )
    save_weights(job.outputs["model"], network, network.config)

    views = crops.views(split="train")
    held_out = held_out_instants(crops, fraction=settings.held_out_fraction)
    kept = views[np.isin(crops.table["instant"][views[:, 0]], held_out)]
    said = f"arm {settings.arm} ({settings.track}), {settings.steps} steps"
    report = {}
    if len(kept):
        report["held_out"] = novel_view_metrics(network, crops, kept)
        said += f"; PSNR of held-out novel views {report['held_out']['novel']['psnr_person_db']:.1f} dB"
    weights = sum(parameter.numel() for parameter in network.parameters())
    write_json(job.outputs["metrics"], {"nvs": report, "weights": weights, "steps": settings.steps})
    shown = spread(kept if len(kept) else views, FIGURE_ROWS)
    draw_novel_views(job.outputs["figure"], network, crops, shown)
    return said


if __name__ == "__main__":
    run("encdec", main, spreads=True)
