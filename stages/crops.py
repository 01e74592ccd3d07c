"""Root-centred crops, their backgrounds, masks and virtual cameras, as memory-mapped shards.

Everything that is trained reads these few files: pixels and rotations agree, since each image is warped
to the camera that its pose is given in, and masks come twice: the data set's, and one that needs no label.
"""

from pathlib import Path

from stages import Job, run


def main(job: Job) -> str:
    """Writes the shards, figures on them and a contact sheet."""
    from geobody.data.crop_figure import crop_figure
    from geobody.data.cropping import CropSettings, write_crops
    from geobody.data.crops import CropShards
    from geobody.data.index import Index
    from geobody.report.contact_sheet import write_sheet
    from geobody.report.metrics_json import write_json

    crops = job.params.crops
    figures = write_crops(
        Index.open(job.inputs["index"]),
        root=Path(job.params.dataset.root),
        backgrounds=job.inputs["backgrounds"],
        output=job.outputs["crops"],
        settings=CropSettings(**crops.model_dump()),
    )
    write_json(job.outputs["metrics"], figures)
    write_sheet(job.outputs["figure"], crop_figure(CropShards.open(job.outputs["crops"])))
    return f"{figures['images']} crops of {crops.size_px} px around the {crops.centre}"


if __name__ == "__main__":
    run("crops", main)
