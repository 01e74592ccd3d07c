"""What the pose head and the body lose where a box around the person, not a labelled root, places the crop.

A test image is cropped around its root, by the box of its mask, and by a box that is off; crops by a box are measured
as they are first cut and after they were cut anew around the root that the networks found in them.
"""

from pathlib import Path

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np
    import torch

    from geobody.body.model import BodyModel
    from geobody.box_crops import boxed_images
    from geobody.box_errors import PLACED_BY, BoxErrors
    from geobody.data.index import Index
    from geobody.errors import DataError
    from geobody.models.encoder_decoder import load_encoder_decoder
    from geobody.models.pose_head import load_pose_head
    from geobody.models.regressor import load_regressor
    from geobody.predict import Predictor
    from geobody.progress import progress
    from geobody.report.metrics_json import write_json

    settings, crops = job.params.eval_crops, job.params.crops
    torch.set_num_threads(job.params.training.threads)
    torch.use_deterministic_algorithms(True)
    index = Index.open(job.inputs["index"])
    rows = np.flatnonzero(index.column("split") == "test")
    if not len(rows):
        raise DataError(
            job.inputs["index"], "holds no test images", "mend params.yaml: dataset.test_subjects"
        )
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, settings.images).round().astype(np.int64))]
    errors = BoxErrors(
        Predictor(
            network=load_encoder_decoder(job.inputs["encoder"]),
            head=load_pose_head(job.inputs["pose_head"]),
            regressor=load_regressor(job.inputs["smpl_regressor"]),
            body=BodyModel.load(job.inputs["body"]),
            mask_box_mm=crops.mask_box_mm,
            centred_on=crops.centre,
        ),
        off=settings.box_off,
        expected=len(rows),
    )
    images = boxed_images(
        index,
        rows,
        root=Path(job.params.dataset.root),
        backgrounds=job.inputs["backgrounds"],
        threshold=crops.difference_threshold,
        noise_factor=crops.difference_noise_factor,
    )
    for boxed in progress(images, total=len(rows), desc="crops by boxes"):
        errors.add(boxed)
    metrics = errors.metrics()
    write_json(job.outputs["metrics"], metrics)
    errors.draw(job.outputs["figure"])
    heads = ", ".join(f"{way} {metrics[way]['pose']['n_mpjpe_17_mm']:.0f}" for way in PLACED_BY)
    return f"{metrics['images']} test images; N-MPJPE of the pose head in mm by crop: {heads}"


if __name__ == "__main__":
    run("eval_crops", main)
