"""A synthetic multi-view data set in Human3.6M's layout, with its truth kept apart.

Seven dressed people perform up to fifteen actions in a room with four calibrated cameras; further bodies
take a few poses each, for evaluation alone. Everything later reads the set as it would read the licensed
one. Beside it lies a set of poses and shapes in
SURREAL's layout for the prior, and the truth of every frame, which ``eval`` alone may read.
"""

import time

from stages import Job, run


def main(job: Job) -> str:
    """Draws the set with all cores (the result does not depend on how many), then describes it."""
    from geobody.conventions import TEST_SUBJECTS, TRAIN_SUBJECTS
    from geobody.data.manifest_writing import write_manifest
    from geobody.data.synthetic import generate
    from geobody.data.synthetic_facts import describe
    from geobody.data.synthetic_files import write_surreal, write_truth
    from geobody.report.metrics_json import write_json
    from geobody.report.people_sheet import Pictures, actions_sheet, bodies_sheet, people_sheet

    synth = job.params.synth
    seed = synth.seed
    body, motions = job.inputs["body"], job.inputs["motions"]
    images, masks = job.outputs["images"], job.outputs["masks"]
    subjects = (*TRAIN_SUBJECTS, *TEST_SUBJECTS)
    start = time.monotonic()
    performances = generate(
        images=images,
        masks=masks,
        body=body,
        motions=motions,
        seed=seed,
        subjects=subjects,
        actions=synth.actions,
        subactions=synth.subactions,
        frames=synth.frames,
        fps=synth.fps,
        image_size_px=synth.image_size_px,
        jpeg_quality=synth.jpeg_quality,
        noise_std=synth.noise_std,
        evaluation_bodies=synth.evaluation_bodies,
        evaluation_poses=synth.evaluation_poses,
    )
    seconds = time.monotonic() - start
    write_truth(job.outputs["truth"], performances)
    prior = write_surreal(
        job.outputs["surreal"],
        body=body,
        motions=motions,
        seed=seed,
        sequences={"train": synth.surreal_sequences, "val": synth.surreal_val_sequences},
        frames=synth.surreal_frames,
    )
    write_manifest(job.outputs["manifest"])
    facts = describe(performances, prior)
    write_json(job.outputs["metrics"], facts)
    pictures = Pictures(images, masks)
    people_sheet(
        job.outputs["people"], pictures, subjects=subjects, actions=synth.actions, frames=synth.frames
    )
    actions_sheet(
        job.outputs["by_action"], pictures, subjects=subjects, actions=synth.actions, frames=synth.frames
    )
    bodies_sheet(
        job.outputs["evaluation_bodies"],
        pictures,
        shown=[(p.subject, p.action, p.subaction) for p in performances if p.subject not in subjects],
    )
    each_ms = 1000 * seconds / facts["image_files"]  # said and not written: outputs repeat to the byte
    return (
        f"{facts['image_files']} images ({each_ms:.1f} ms each) of {len(subjects)} people in "
        f"{len(synth.actions)} actions and of {synth.evaluation_bodies} bodies for evaluation; with the "
        f"{facts['surreal']['train']['poses']} poses for the prior "
        f"{facts['distinct_poses']['with_prior']} distinct poses"
    )


if __name__ == "__main__":
    run("synth", main)
