"""Every path of the DAG and every section of the params that a stage reads, in one table.

``dvc.yaml`` is written from this table (``make dvc.yaml``) and stages get their paths from it, so
that the two cannot differ. Paths are relative to the repository root; ``${section.key}`` stands
for a value of ``params.yaml``, in DVC's own notation.
"""

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class StageSpec:
    """What one stage reads and writes.

    ``outputs`` are cached by DVC; ``metrics``, ``curves``, ``tables`` and ``figures`` are committed to Git.
    ``curves`` are CSVs by step, ``tables`` CSVs by action: DVC plots them as lines and as bars.
    ``per`` names the list in the params over which the stage repeats; an empty list removes it.
    """

    description: str
    sections: tuple[str, ...]
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    curves: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)
    per: str | None = None

    def written(self) -> dict[str, str]:
        """Name -> path of everything that the stage writes."""
        return {**self.outputs, **self.metrics, **self.curves, **self.tables, **self.figures}


MANIFEST = "${dataset.root}/manifest.parquet"
INDEX = "data/index"
CROPS = "data/crops"
EMBEDDINGS = "data/embeddings"
MODELS = "data/models"
PRIOR_POSES = "data/prior_poses"

STAGES: Final[dict[str, StageSpec]] = {
    "body": StageSpec(
        "An openly licensed body in SMPL's file format, in several mesh sizes.",
        ("body",),
        outputs={"body": "data/body"},
        metrics={"metrics": "metrics/body.json"},
        figures={"figure": "metrics/figures/body.png"},
        per="generate",
    ),
    "synth": StageSpec(
        "A synthetic multi-view data set in Human3.6M's layout, with its truth kept apart.",
        ("synth",),
        inputs={"body": "${body.model}", "motions": "${synth.motions}"},
        outputs={
            "images": "data/synthetic/images",
            "masks": "data/synthetic/masks",
            "manifest": "data/synthetic/manifest.parquet",
            "surreal": "data/synthetic/surreal",
            "truth": "data/synthetic/truth",
        },
        metrics={"metrics": "metrics/synth.json"},
        figures={
            "people": "metrics/figures/synth.png",
            "by_action": "metrics/figures/synth_actions.png",
            "evaluation_bodies": "metrics/figures/synth_evaluation_bodies.png",
        },
        per="generate",
    ),
    "index": StageSpec(
        "One row per image: cameras, poses, splits and exclusions.",
        ("dataset",),
        inputs={"manifest": MANIFEST},
        outputs={"index": INDEX},
        metrics={"metrics": "metrics/index.json"},
    ),
    "backgrounds": StageSpec(
        "Per subject and camera, the pixelwise median.",
        ("dataset", "backgrounds"),
        inputs={"index": INDEX, "manifest": MANIFEST},
        outputs={"backgrounds": "data/backgrounds"},
        metrics={"metrics": "metrics/backgrounds.json"},
        figures={"figure": "metrics/figures/backgrounds.png"},
    ),
    "crops": StageSpec(
        "Root-centred crops, their backgrounds, masks and virtual cameras, as mapped shards.",
        ("dataset", "crops"),
        inputs={
            "index": INDEX,
            "manifest": MANIFEST,
            "backgrounds": "data/backgrounds",
        },
        outputs={"crops": CROPS},
        metrics={"metrics": "metrics/crops.json"},
        figures={"figure": "metrics/figures/crops.png"},
    ),
    "encdec": StageSpec(
        "The self-supervised encoder-decoder: one view drawn from another.",
        ("encdec", "held_out", "training", "seed"),
        inputs={"crops": CROPS},
        outputs={"model": f"{MODELS}/encdec.safetensors"},
        curves={"curves": "metrics/curves/encdec.csv"},
    ),
    "pose_head": StageSpec(
        "3D joints with the labels of one subject: a head on the frozen encoder, or both tuned as one.",
        ("pose_head", "tuning", "augmentation", "pose_loss", "labels", "held_out", "training", "seed"),
        inputs={"crops": CROPS, "encdec": f"{MODELS}/encdec.safetensors"},
        outputs={
            "encoder": f"{MODELS}/encoder.safetensors",
            "model": f"{MODELS}/pose_head.safetensors",
        },
        curves={"curves": "metrics/curves/pose_head.csv"},
    ),
    "embeddings": StageSpec(
        "L_3D and L_app of every crop, from the pose head's encoder.",
        ("training",),
        inputs={"crops": CROPS, "encoder": f"{MODELS}/encoder.safetensors"},
        outputs={"embeddings": EMBEDDINGS},
        metrics={"metrics": "metrics/embeddings.json"},
    ),
    "prior_poses": StageSpec(
        "Poses and shapes of the SURREAL-layout set for the prior, in two files.",
        ("prior",),
        inputs={"surreal": "${prior.root}"},
        outputs={"prior_poses": PRIOR_POSES},
        metrics={"metrics": "metrics/prior_poses.json"},
    ),
    "controls": StageSpec(
        "What needs no representation: mean pose, mean body, a CNN on S1, a CNN on all labels.",
        ("controls", "augmentation", "pose_loss", "labels", "held_out", "training", "seed"),
        inputs={"crops": CROPS, "prior_poses": PRIOR_POSES, "body": "${body.model}"},
        outputs={"model": f"{MODELS}/controls.safetensors"},
        curves={"curves": "metrics/curves/controls.csv"},
    ),
    "gan_prior": StageSpec(
        "An adversarial prior on the pose and the shape of a body.",
        ("gan_prior", "training", "seed"),
        inputs={"prior_poses": PRIOR_POSES},
        outputs={"model": f"{MODELS}/gan_prior.safetensors"},
        metrics={"metrics": "metrics/gan_prior.json"},
        curves={"curves": "metrics/curves/gan_prior.csv"},
        figures={"figure": "metrics/figures/gan_prior.png"},
    ),
    "smpl_regressor": StageSpec(
        "theta and beta from the embedding: joints of one subject, silhouettes of all, the prior.",
        ("smpl_regressor", "labels", "held_out", "training", "seed"),
        inputs={
            "embeddings": EMBEDDINGS,
            "crops": CROPS,
            "gan_prior": f"{MODELS}/gan_prior.safetensors",
            "prior_poses": PRIOR_POSES,
            "body": "${body.model}",
        },
        outputs={"model": f"{MODELS}/smpl_regressor.safetensors"},
        curves={"curves": "metrics/curves/smpl_regressor.csv"},
    ),
    "validation": StageSpec(
        "What each network does on training subjects: held-out blocks, people without labels.",
        ("encdec", "labels", "held_out", "training"),
        inputs={
            "crops": CROPS,
            "embeddings": EMBEDDINGS,
            "encdec": f"{MODELS}/encdec.safetensors",
            "pose_head": f"{MODELS}/pose_head.safetensors",
            "controls": f"{MODELS}/controls.safetensors",
            "smpl_regressor": f"{MODELS}/smpl_regressor.safetensors",
            "body": "${body.model}",
        },
        metrics={
            "encdec_metrics": "metrics/encdec.json",
            "pose_head_metrics": "metrics/pose_head.json",
            "controls_metrics": "metrics/controls.json",
            "smpl_regressor_metrics": "metrics/smpl_regressor.json",
        },
        figures={
            "encdec_figure": "metrics/figures/encdec.png",
            "smpl_regressor_figure": "metrics/figures/smpl_regressor.png",
        },
    ),
    "eval": StageSpec(
        "Every metric and every control on the test subjects, with pictures.",
        ("eval", "training"),
        inputs={
            "crops": CROPS,
            "embeddings": EMBEDDINGS,
            "encdec": f"{MODELS}/encdec.safetensors",
            "encoder": f"{MODELS}/encoder.safetensors",
            "pose_head": f"{MODELS}/pose_head.safetensors",
            "controls": f"{MODELS}/controls.safetensors",
            "gan_prior": f"{MODELS}/gan_prior.safetensors",
            "smpl_regressor": f"{MODELS}/smpl_regressor.safetensors",
            "body": "${body.model}",
            "prior_poses": PRIOR_POSES,
            "manifest": MANIFEST,
        },
        outputs={
            "predictions": "data/eval/predictions.parquet",
            "evaluation_bodies": "data/eval/evaluation_bodies.parquet",
        },
        metrics={"metrics": "metrics/eval.json"},
        tables={"by_action": "metrics/tables/eval_by_action.csv"},
        figures={
            "skeletons": "metrics/figures/eval_skeletons.png",
            "novel_views": "metrics/figures/eval_novel_views.png",
            "turned": "metrics/figures/eval_turned.png",
            "neighbours": "metrics/figures/eval_neighbours.png",
            "bodies": "metrics/figures/eval_bodies.png",
            "worst_bodies": "metrics/figures/eval_worst_bodies.png",
            "errors": "metrics/figures/eval_errors.png",
        },
    ),
    "eval_crops": StageSpec(
        "What is lost where a box around the person, not a labelled root, places the crop.",
        ("eval_crops", "crops", "dataset", "training"),
        inputs={
            "index": INDEX,
            "manifest": MANIFEST,
            "backgrounds": "data/backgrounds",
            "encoder": f"{MODELS}/encoder.safetensors",
            "pose_head": f"{MODELS}/pose_head.safetensors",
            "smpl_regressor": f"{MODELS}/smpl_regressor.safetensors",
            "body": "${body.model}",
        },
        metrics={"metrics": "metrics/eval_crops.json"},
        figures={"figure": "metrics/figures/eval_crops.png"},
    ),
}
