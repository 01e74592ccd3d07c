"""L_3D and L_app of every crop, from the encoder that the pose head is for.

In full precision and batches of fixed size, so that the same network gives the same bytes.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np

    from geobody.data.crops import CropShards
    from geobody.data.embeddings import L3D_FILE, LAPP_FILE
    from geobody.models.encoder_decoder import embed, load_encoder_decoder
    from geobody.report.embedding_report import embedding_report
    from geobody.report.metrics_json import write_json
    from geobody.training.determinism import make_fabric

    training = job.params.training
    crops = CropShards.open(job.inputs["crops"])
    fabric = make_fabric(precision="32-true", threads=training.threads, device=training.device)
    network = load_encoder_decoder(job.inputs["encoder"])
    network.require_crop_size(crops.crop_size_px, job.inputs["encoder"])
    points, appearance = embed(network.to(fabric.device), crops, np.arange(len(crops)))
    folder = job.outputs["embeddings"]
    folder.mkdir()
    np.save(folder / L3D_FILE, points)
    np.save(folder / LAPP_FILE, appearance)
    # Of training subjects alone: whoever tunes on this number must not tune on the test subjects.
    report = embedding_report(
        points,
        appearance,
        R_world_to_crop=crops.table["R_world_to_crop"],
        views=crops.views(split="train"),
    )
    write_json(job.outputs["metrics"], report)
    return f"{len(crops)} crops as {points.shape[1]} points and {appearance.shape[1]} numbers of appearance"


if __name__ == "__main__":
    run("embeddings", main)
