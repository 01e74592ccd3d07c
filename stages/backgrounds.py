"""Per subject and camera, the pixelwise median of its images.

The decoder of the encoder-decoder is given the room, so that its latent need not hold it; and what
differs from the room is the person, found without any label.
"""

from pathlib import Path

from stages import Job, run


def main(job: Job) -> str:
    """Writes the medians and a contact sheet of them."""
    from geobody.data.backgrounds import background_figure, write_backgrounds
    from geobody.data.index import Index
    from geobody.report.background_report import background_report
    from geobody.report.contact_sheet import write_sheet
    from geobody.report.metrics_json import write_json

    frames, root = job.params.backgrounds.frames, Path(job.params.dataset.root)
    index = Index.open(job.inputs["index"])
    paths = write_backgrounds(index, root=root, output=job.outputs["backgrounds"], frames=frames)
    write_json(job.outputs["metrics"], background_report(index, paths, root=root))
    write_sheet(job.outputs["figure"], background_figure(paths))
    return f"{len(paths)} medians of at most {frames} images each"


if __name__ == "__main__":
    run("backgrounds", main)
