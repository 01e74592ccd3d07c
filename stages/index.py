"""One row per image: cameras, poses, splits and exclusions.

Reads the manifest and each sequence's ``.mat``, never a pixel: later stages take everything that
they need to know about an image from this table, whatever layout the data set has on disk.
"""

from stages import Job, run


def main(job: Job) -> str:
    """Writes the index and its counts."""
    from geobody.data.index import build_index
    from geobody.report.metrics_json import write_json

    dataset = job.params.dataset
    counts = build_index(
        manifest=job.inputs["manifest"],
        output=job.outputs["index"],
        stride=dataset.stride,
        cameras=dataset.cameras,
        train_subjects=dataset.train_subjects,
        test_subjects=dataset.test_subjects,
        exclude=[(exclusion.folder, exclusion.reason) for exclusion in dataset.exclude],
    )
    write_json(job.outputs["metrics"], counts)
    return (
        f"{counts['images']} images of {counts['sequences']} sequences at stride {counts['stride']}, "
        f"{counts['images_train']} to train and {counts['images_test']} to test"
    )


if __name__ == "__main__":
    run("index", main)
