"""Poses and shapes of a SURREAL-layout set for the prior: checked, broken shapes left out, in two files.

The one stage that opens the set, which may hold tens of thousands of files.
"""

from stages import Job, run


def main(job: Job) -> str:
    from geobody.data.prior_poses import PRIOR_SPLITS, write_prior_poses
    from geobody.data.surreal import read_surreal
    from geobody.report.metrics_json import write_json

    facts = {}
    for split in PRIOR_SPLITS:
        poses = read_surreal(job.inputs["surreal"], split=split, stride=job.params.prior.stride)
        write_prior_poses(job.outputs["prior_poses"], split, poses)
        facts[split] = {
            "poses": len(poses),
            "sequences": len(poses.sequences),
            "dropped_sequences": poses.n_dropped,
        }
    write_json(job.outputs["metrics"], facts)
    dropped = sum(fact["dropped_sequences"] for fact in facts.values())
    return (
        f"{facts['train']['poses']} poses to train on, {facts['val']['poses']} to compare with "
        f"(sequences with broken shapes left out: {dropped})"
    )


if __name__ == "__main__":
    run("prior_poses", main)
