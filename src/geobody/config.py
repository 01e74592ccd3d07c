"""The params: one frozen model per section of ``params.yaml``, and what is said of a wrong one."""

from collections.abc import Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from geobody.errors import ParamsError
from geobody.training.schedule import Schedule
from geobody.yaml12 import read_yaml

Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Subject = Annotated[int, Field(ge=1, le=99)]
PathName = Annotated[str, Field(min_length=1)]


LEAST_SHARE = 2
"""Items of a batch that each process of a training takes at least: a batch norm cannot train on fewer."""
IMAGES_OF_AN_ITEM = 4
"""Images of an item of ``encdec``: two cameras at two instants of a person."""
SCHEDULE_KEYS = {field.name for field in fields(Schedule)}
"""Keys of a section that make up a training's ``Schedule``."""


class Section(BaseModel):
    """Base of every section: frozen, strict, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, values: Any) -> Any:
        """Strict mode takes no list where a tuple is declared, and YAML has only lists."""
        if isinstance(values, dict):
            return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return values


class Scheduled(Section):
    """Base of the sections that train: the length, and AdamW's schedule but for its peak, which is the section's."""

    steps: Count
    """Length of the training."""
    weight_decay: NonNegative = 1e-2
    """AdamW's decay."""
    warmup_steps: Annotated[int, Field(ge=0, validate_default=True)] = 50
    """Steps in which the learning rate rises; fewer than ``steps``."""
    clip_norm: Positive = 5.0
    """Largest norm of a gradient."""

    @field_validator("warmup_steps")
    @classmethod
    def _warm_up_ends(cls, value: int, info: ValidationInfo) -> int:
        steps = info.data.get("steps")
        if steps is not None and value >= steps:
            raise ValueError(f"must be less than steps ({steps})")
        return value

    def schedule(self) -> Schedule:
        """Length, batches and rates, as trainings take them."""
        return Schedule(**self.model_dump(include=SCHEDULE_KEYS))

    def beside_schedule(self, *less: str) -> dict[str, Any]:
        """The values of all other keys, ``less`` those."""
        return self.model_dump(exclude={*SCHEDULE_KEYS, *less})


class Body(Section):
    """The body model and, when it is the open one, how it is built."""

    model: PathName = "data/body/open_1723.npz"
    """File of the body that every later stage uses."""
    bodies: Annotated[int, Field(ge=30, le=20_000)] = 1200
    """Sampled adults that the shape space is fitted to; a tenth as many judge it."""
    poses: Annotated[int, Field(ge=60, le=20_000)] = 300
    """Random poses that the pose correctives and Human3.6M's joints are fitted to."""
    sizes: Annotated[tuple[Annotated[int, Field(ge=1000, le=12_000)], ...], Field(min_length=1)] = (
        6890,
        3445,
        1723,
    )
    """Vertices of each mesh; every smaller one is a subset of the larger ones."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What its bodies and poses are drawn from: not the trainings' seed, so that another one meets the same data."""


class Synth(Section):
    """The synthetic multi-view data set."""

    actions: Annotated[tuple[Annotated[int, Field(ge=2, le=16)], ...], Field(min_length=1)] = tuple(
        range(2, 17)
    )
    """Human3.6M's numbers of the actions that every subject performs."""
    subactions: Annotated[int, Field(ge=1, le=99)] = 1
    """Performances of each action."""
    frames: Annotated[int, Field(ge=1, le=999_999)] = 28
    """Instants of a performance; each is seen by four cameras."""
    fps: Positive = 5.0
    """Instants in a second; Human3.6M has 50."""
    image_size_px: Annotated[int, Field(ge=64, le=4096)] = 256
    """Side of the square images."""
    jpeg_quality: Annotated[int, Field(ge=50, le=100)] = 90
    """Quality of the images, as libjpeg counts it."""
    noise_std: Annotated[float, Field(ge=0, le=32)] = 2.5
    """Sensor noise at mid grey, in grey levels of 255."""
    motions: PathName = "data/motions"
    """Folder of takes: .npz as committed, or your own .bvh and DeepMimic .txt clips."""
    evaluation_bodies: Annotated[int, Field(ge=0, le=899)] = 40
    """Further bodies for evaluation alone, numbered from 101 on; 0 leaves them out."""
    evaluation_poses: Annotated[int, Field(ge=0, validate_default=True)] = 400
    """Poses that they take between them; at least one each."""
    surreal_sequences: Count = 500
    """Sequences of poses and shapes that the prior is trained on, in SURREAL's layout."""
    surreal_val_sequences: Count = 40
    """Sequences of other takes, performances and shapes that the prior is judged on."""
    surreal_frames: Count = 30
    """Frames of each of them."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What people, rooms and motions are drawn from; the trainings have a seed of their own."""

    @field_validator("evaluation_poses")
    @classmethod
    def _each_body_has_a_pose(cls, value: int, info: ValidationInfo) -> int:
        bodies = info.data.get("evaluation_bodies")
        if bodies is not None and (value < bodies or (bodies == 0 and value)):
            raise ValueError(f"must be at least evaluation_bodies ({bodies}), and 0 with 0 bodies")
        return value


class Exclusion(Section):
    """Sequences that are left out, and why."""

    folder: Annotated[str, Field(min_length=1)]
    """A sequence's folder, or a pattern of several: s_11_act_02_subact_02_ca_01, s_09_act_05_*."""
    reason: Annotated[str, Field(min_length=1)]
    """What is wrong with them: printed with the counts."""


class Dataset(Section):
    """Where the images are and which of them are used."""

    root: PathName = "data/synthetic"
    """Folder that holds images/, perhaps masks/ and annotations/, and manifest.parquet, which lists them."""
    stride: Count = 1
    """Frames 1, 1 + stride, 1 + 2 stride, ... are used."""
    cameras: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 3, 4)
    """Cameras that are used."""
    train_subjects: Annotated[tuple[Subject, ...], Field(min_length=1)] = (1, 5, 6, 7, 8)
    """Subjects that may be trained on, with or without labels."""
    test_subjects: Annotated[tuple[Subject, ...], Field(min_length=1)] = (9, 11)
    """Subjects that every score is measured on; never one of the training subjects. Bodies numbered from
    101 on are for evaluation alone, wherever a data set has them: they are named in neither list."""
    exclude: tuple[Exclusion, ...] = ()
    """Sequences that are left out."""

    @field_validator("test_subjects")
    @classmethod
    def _subjects_differ(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        both = sorted(set(info.data.get("train_subjects", ())) & set(value))
        if both:
            raise ValueError(
                f"subjects {both} stand in train_subjects and test_subjects; remove them from one"
            )
        return value


class Backgrounds(Section):
    """Median backgrounds."""

    frames: Annotated[int, Field(ge=3, le=1000)] = 40
    """Frames of a median, spread over all sequences of its subject and camera; they are held in memory."""


class Crops(Section):
    """Crops around the root and their virtual cameras."""

    size_px: Annotated[int, Field(ge=16, le=512, multiple_of=16)] = 64
    """Side of a crop; it shows 2 m at the root's depth."""
    centre: Literal["root", "mask"] = "root"
    """root: the labelled root and its depth; mask: the middle of the mask's box, which needs no label."""
    mask_box_mm: Positive = 1600.0
    """With ``centre: mask``, the longer side of the mask's box is taken for this long: it gives the depth."""
    roll_std_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Standard deviation of the in-plane rotation of a crop, drawn once per image."""
    seed: Annotated[int, Field(ge=0)] = 0
    """What the in-plane rotations are drawn from."""
    difference_threshold: Positive = 8.0
    """Colour difference to the background, in CIELAB units, above which a pixel is foreground at least."""
    difference_noise_factor: NonNegative = 4.0
    """The threshold is never below this many standard deviations of the crop's own noise."""


class Encdec(Scheduled):
    """The self-supervised encoder-decoder."""

    arm: Literal["rhodin", "explicit", "sync", "rhodin+sync", "explicit+sync", "thesis", "scratch"] = "rhodin"
    """rhodin: Rhodin et al. 2018 with its faults mended; explicit: L_3D's points drawn by projection; sync:
    Jenni and Favaro 2020, which views show one instant; rhodin+sync, explicit+sync: both on one encoder;
    thesis: the thesis' for comparison; scratch: the encoder as the seed made it.

    Of ``thesis``, the network (at half its widths), what a batch is made of and the weights of the two
    terms are the thesis' own; optimiser, schedule and feature loss are this project's, as for the others.
    """
    feature_loss: Literal["gradient", "resnet18"] = "gradient"
    """gradient: multi-scale image gradients; resnet18: features of ImageNet weights, which must be at hand."""
    feature_weights: PathName = "data/models/resnet18.safetensors"
    """File of those weights; read for ``resnet18`` alone."""
    steps: Count = 2400
    """Length of the training."""
    batch_size: Annotated[int, Field(ge=8, multiple_of=4)] = 64
    """Images in a step: quadruples of two cameras at two instants of a person."""
    learning_rate: Positive = 2e-3
    """Peak of AdamW's schedule."""
    warmup_steps: Annotated[int, Field(ge=0, validate_default=True)] = 100
    """Steps in which the learning rate rises; fewer than ``steps``."""
    same_view_fraction: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of targets that are the source view itself, for ``rhodin``; ``explicit`` draws both views anyway."""
    colour_strength: NonNegative = 0.6
    """Strength of the change of outfits and light, alike in source and target; not for ``thesis``."""
    spoil_strength: NonNegative = 0.5
    """Strength of noise and holes in what the encoder sees; not for ``thesis``."""
    background_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the encoder's images that stand before another crop's background; not for ``thesis``. With
    ``sync`` on the track rgb it is 1, or the room would tell which views are mirrored."""
    mirror: bool = True
    """Whether half of the quadruples are mirrored, with their rotations; not for ``thesis``, always for ``sync``."""
    turn_deg: NonNegative = 0.0
    """Standard deviation of the in-plane rotation of each view; not for ``thesis``."""
    mse_weight: NonNegative = 10.0
    """Weight of the squared error, in which the person's pixels count eleven times; not for ``thesis``."""
    feature_weight: NonNegative = 2.0
    """Weight of the feature loss; not for ``thesis``."""
    mask_weight: NonNegative = 0.5
    """Weight of the masks' cross-entropy and Dice loss; 0 learns without masks as targets. Not for ``thesis``."""
    sync_weight: NonNegative = 1.0
    """Weight of the cross-entropy of ``sync``, of about 0.7 by chance."""
    appearance_from: Literal["sequence", "subject"] = "sequence"
    """Where another time of a person is taken from, whose clothes must be the same; not for ``thesis``.
    Always the sequence with ``sync``."""
    held_out_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.07
    """Share of each training sequence, its last frames, that is never trained on but reported."""


class Training(Section):
    """What every training shares: it can change results, so it is a param."""

    track: Literal["rgb", "masked"] = "rgb"
    """What every network that sees images is given, in training and test: the crop, or the crop without its
    background (by the difference masks)."""
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"
    """bf16-mixed: layers compute in bfloat16, weights and sums stay float32; 32-true: all float32."""
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    """Threads of torch in each process: another number adds sums in another order."""
    processes: Annotated[int, Field(ge=1, le=4096)] = 1
    """Processes that share each batch of a training; not of controls, which trains its networks side by side.
    Each takes two items of a batch at least: with the batches of params.yaml four processes are the most."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Kind of device that trains."""


class Labels(Section):
    """Whose labels, and how many of them, the pose head and the regressor may see."""

    subjects: Annotated[tuple[Literal[1, 5, 6, 7, 8], ...], Field(min_length=1)] = (1,)
    """Training subjects whose poses are known; test subjects cannot be named here."""
    fraction: Fraction = 1.0
    """Share of their instants that carry labels, spread evenly over time; smaller shares are subsets."""
    held_out_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of each labelled sequence, its last frames, that is never trained on: errors there show overfitting."""
    ceiling_subjects: Annotated[tuple[Literal[1, 5, 6, 7, 8], ...], Field(min_length=1)] = (1, 5, 6, 7, 8)
    """Whose labels the control ``cnn_all`` sees; without 8 when settings are chosen on subject 8."""


class HeldOut(Section):
    """People kept from every training, so that settings can be chosen on them."""

    subjects: tuple[Literal[1, 5, 6, 7, 8], ...] = ()
    """Training subjects of whom no training reads anything, images included; stage validation reports on them."""

    def taught(self, among: Iterable[int]) -> list[int]:
        """The subjects of ``among`` that are not held out, ascending."""
        return sorted(set(among) - set(self.subjects))

    def labels(self, labels: Labels) -> dict[str, Any]:
        """``labels`` for ``label_splits``, the ceiling's subjects without those held out.

        Raises ``ParamsError`` when a subject is both labelled and held out.
        """
        self.require_absent(labels.subjects)
        return labels.model_dump() | {"ceiling_subjects": self.taught(labels.ceiling_subjects)}

    def require_absent(self, labelled: Iterable[int]) -> None:
        """Raises ``ParamsError`` when a subject is both labelled and held out."""
        if both := sorted(set(labelled) & set(self.subjects)):
            raise ParamsError(
                f"params.yaml: held_out.subjects: subject {both[0]} stands in labels.subjects too; "
                "remove it from one"
            )


class Augmentation(Section):
    """How images and joints are changed for whatever learns poses from images: controls and tuned heads alike."""

    strength: NonNegative = 1.0
    """Strength of the change of colours, as in ``encdec``; 0 leaves images as they are."""
    background_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the images whose person stands in front of another image's background."""
    turn_deg: NonNegative = 10.0
    """Standard deviation of the in-plane rotation of image and joints."""
    shift_std: Annotated[float, Field(ge=0, le=0.5)] = 0.04
    """Standard deviation of the shift of a crop's centre, as a share of its side."""
    zoom_std: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    """Standard deviation of the logarithm of a crop's scale."""
    mirror: bool = True
    """Whether half of the images are mirrored, joints with them."""


class PoseLoss(Section):
    """What controls and tuned heads are trained on, beside the distances of joints."""

    heat_weight: NonNegative = 3.0
    """Of the heat maps, which are told where joints are in the picture."""


class PoseHead(Scheduled):
    """3D joints from L_3D."""

    kind: Literal["mlp", "equivariant", "fine_tuned", "semi_supervised"] = "semi_supervised"
    """On the frozen encoder, mlp: two hidden layers; equivariant: each joint a weighted sum of the points, solved in
    closed form. With the encoder trained along (see ``tuning``), fine_tuned: on the labels; semi_supervised: on
    what the unlabelled views together say of their joints as well (see ``tuning``)."""
    hidden_units: Count = 2048
    """Width of the two hidden layers of ``mlp``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of hidden units that ``mlp`` drops while it trains."""
    turn_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the embeddings that ``mlp`` sees turned about the vertical, with their labels."""
    steps: Count = 1000
    """Length of the training of ``mlp``."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Embeddings in a step."""
    learning_rate: Positive = 1e-3
    """Peak of AdamW's schedule."""
    ridge: Positive = 1e-3
    """Penalty of ``equivariant``, as a share of the points' mean second moment."""


class Tuning(Scheduled):
    """Training of encoder and pose head as one, for ``pose_head.kind`` fine_tuned and semi_supervised."""

    start: Literal["pretext", "scratch"] = "pretext"
    """pretext: from the encoder of the stage encdec; scratch: from random weights, whatever encdec learned."""
    steps: Count = 6000
    """Length of the training, all rounds together."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images in a step."""
    learning_rate: Positive = 2.5e-3
    """Peak of AdamW's schedule, which each round goes through anew."""
    warmup_steps: Annotated[int, Field(ge=0, validate_default=True)] = 100
    """Steps in which the learning rate rises; fewer than ``steps``."""
    first_share: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Share of the steps on labels alone, before the first round of ``semi_supervised``; with 0 the first predictions
    are those of the pretext's encoder, through a closed-form head, so ``start`` must be pretext."""
    rounds: Count = 1
    """How often ``semi_supervised`` predicts the unlabelled views, brings those of an instant together and trains on
    what comes out."""
    labelled_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of a round's images that carry labels."""
    moved_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of a round's crops that are displaced and scaled (``augmentation.shift_std``, ``zoom_std``). With 0 crops
    around a labelled root do better, and crops by a box much worse (docs/experiments.md); between, it was not tried."""
    heat_maps: bool = True
    """Whether joints of unlabelled instants are looked for where the heat maps of all views meet; without it, or in an
    arm that has none, their predictions are fused."""
    silhouettes: bool = True
    """Whether joints that were looked for, or fused, are fitted to the masks of all views; without it they are taken as
    they are."""
    ridge: Positive = 1e-2
    """Penalty of the closed-form head that a pretrained encoder starts with; as in ``pose_head``."""


class Controls(Scheduled):
    """CNNs trained without the representation."""

    steps: Count = 2000
    """Length of the training of each of the two CNNs."""
    ceiling_steps: Count | None = None
    """Length of the training of the CNN with everybody's labels, where it is another one; null: as long."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images in a step."""
    learning_rate: Positive = 2.5e-3
    """Peak of AdamW's schedule."""
    warmup_steps: Annotated[int, Field(ge=0, validate_default=True)] = 100
    """Steps in which the learning rate rises; fewer than ``steps``."""

    def ceiling_schedule(self) -> Schedule:
        """The schedule of the CNN with everybody's labels."""
        steps = self.ceiling_steps or self.steps
        return replace(self.schedule(), steps=steps, warmup_steps=min(self.warmup_steps, steps - 1))


class Prior(Section):
    """Where poses and shapes for the prior come from."""

    root: PathName = "data/synthetic/surreal"
    """A tree in SURREAL's layout: cmu/{train,val}/run*/<sequence>/<sequence>_c0001_info.mat."""
    stride: Count = 1
    """Every how many frames of a clip are used: the real set has 6.5 million."""


class GanPrior(Scheduled):
    """The adversarial prior on pose and shape."""

    steps: Count = 500
    """Length of the training: one step of the discriminators and one of the generator each."""
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Real poses in a step; generated, noisy and shuffled ones are as many each."""
    pose_units: Count = 256
    """Width of the two hidden layers of the discriminator over all joints."""
    joint_units: Count = 32
    """Width of the features that all joints share."""
    shape_units: Count = 32
    """Width of the discriminator on betas."""
    generator_units: Count = 256
    """Width of the generator's two hidden layers."""
    discriminator_learning_rate: Positive = 1e-3
    """Peak of AdamW's schedule for the discriminators."""
    generator_learning_rate: Positive = 1e-3
    """Peak of AdamW's schedule for the generator."""
    weight_decay: NonNegative = 1e-4
    """AdamW's decay."""
    corrupted_weight: NonNegative = 1.0
    """Weight of corrupted training poses (noise, shuffled joints) as fakes; 0 leaves the generator's alone."""
    moment_weight: NonNegative = 1.0
    """Weight of the generator's term on mean and spread; 0 lets it repeat one pose."""
    noise_min_deg: Positive = 3.0
    """Least root mean square angle of the noise in corrupted poses."""
    noise_max_deg: Positive = 90.0
    """Largest root mean square angle of the noise in corrupted poses."""

    @field_validator("noise_max_deg")
    @classmethod
    def _noise_range_is_one(cls, value: float, info: ValidationInfo) -> float:
        least = info.data.get("noise_min_deg")
        if least is not None and value < least:
            raise ValueError(f"noise_min_deg ({least}) is above noise_max_deg")
        return value

    def schedule(self) -> Schedule:
        """Length, batches and rates, these by network."""
        rates = {"discriminator": self.discriminator_learning_rate, "generator": self.generator_learning_rate}
        return Schedule(**self.model_dump(include=SCHEDULE_KEYS), learning_rate=rates)


class SmplRegressor(Scheduled):
    """theta and beta from the embedding."""

    hidden_units: Count = 1024
    """Width of the hidden layers."""
    hidden_layers: Annotated[int, Field(ge=1, le=8)] = 2
    """Their number."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Share of hidden units dropped while it trains."""
    appearance: bool = False
    """Whether L_app, which tells who it is, is an input beside L_3D."""
    outputs: Literal["sixd", "tanh"] = "sixd"
    """Rotations as six numbers each, or axis-angle and betas through tanh, as in the thesis."""
    joints: Literal["all", "without_hips"] = "all"
    """Which labelled joints count: all 17, or 13 without hips, root and spine."""
    mask_loss: Literal["iou", "bce"] = "iou"
    """What compares silhouettes: one minus the IoU, or the binary cross-entropy."""
    mask_views: Literal["all", "own"] = "all"
    """Masks that judge a body: of all views of its instant, or of the view that it was predicted from."""
    prior: Literal["frozen", "along", "hmr", "thesis"] = "frozen"
    """Frozen, trained along with the regressor, or for comparison those of HMR and of the thesis."""
    steps: Count = 1800
    """Length of the training."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    """Labelled images in a step."""
    instants: Count = 8
    """Instants in a step, labelled or not, of which all views are used."""
    raster_instants: Annotated[int, Field(ge=0)] = 4
    """How many of these instants are drawn as silhouettes, the dearest part of a step."""
    mask_samples: Count = 128
    """Points of a mask that the far-reaching term looks for on the body."""
    backend: Literal["deodr", "pytorch3d"] = "deodr"
    """What draws silhouettes: deodr on CPUs, pytorch3d on GPUs."""
    supersample: Annotated[int, Field(ge=1, le=16)] = 3
    """Samples per pixel and direction in a silhouette."""
    turn_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the labelled embeddings that are turned about the vertical together with their labels."""
    agreement_start: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the steps before agreement of views counts; it reaches its weight in as many more."""
    pose_weight: NonNegative = 1.0
    """Labelled joints; a mean distance of 100 mm costs 1."""
    rehearsal_weight: NonNegative = 1.0
    """Captured bodies from embeddings made up of their joints; a mean distance of 100 mm costs 1."""
    overlap_weight: NonNegative = 0.5
    """One minus the silhouettes' IoU in four views."""
    far_weight: NonNegative = 0.5
    """Distance of projected body and mask to each other; 100 mm cost 1."""
    agreement_weight: NonNegative = 0.3
    """Distance of the views' vertices to their median in the world; 100 mm cost 1."""
    spread_weight: NonNegative = 0.1
    """Mean square of the views' betas about their mean."""
    prior_weight: NonNegative = 0.5
    """Verdict of the prior: 0 real, 1 not, more beyond the range of its poses."""
    betas_weight: NonNegative = 0.05
    """Mean square of the betas."""
    learning_rate: Positive = 1e-3
    """Peak of AdamW's schedule."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Torch's threads, instead of ``training.threads``: what draws silhouettes computes with one in any case."""


class Eval(Section):
    """Metrics and pictures on the test subjects."""

    silhouette_instants: Count = 210
    """Test instants, evenly spaced, whose bodies are drawn in all views to measure IoU."""
    view_instants: Count = 210
    """Test instants, evenly spaced, of which views are synthesised."""
    rolled_instants: Count = 210
    """Test instants, evenly spaced, whose crops are rolled to see how the pose head bears it."""
    prior_poses: Annotated[int, Field(ge=2)] = 4000
    """At most so many unseen poses of the prior's set judge the prior."""


class EvalCrops(Section):
    """Errors on the test subjects where a box, not a labelled root, places the crop."""

    images: Count = 840
    """Test images, evenly spaced."""
    box_off: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """Of its sides: how far the box that is off is displaced and stretched, one way or the other."""


class Params(Section):
    """The whole of ``params.yaml``."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Every random draw of every training starts here; data sets and crops have seeds of their own."""
    generate: tuple[Literal["embedded"], ...] = ("embedded",)
    """[embedded] makes the open body and the synthetic set; [] when the paths below name other ones."""
    body: Body
    synth: Synth
    dataset: Dataset
    backgrounds: Backgrounds
    crops: Crops
    encdec: Encdec
    training: Training
    labels: Labels
    held_out: HeldOut
    augmentation: Augmentation
    pose_loss: PoseLoss
    pose_head: PoseHead
    tuning: Tuning
    controls: Controls
    prior: Prior
    gan_prior: GanPrior
    smpl_regressor: SmplRegressor
    eval: Eval
    eval_crops: EvalCrops = EvalCrops()

    def view(self, sections: tuple[str, ...]) -> "ParamsView":
        """The params as a stage sees them: the sections that it declared, no others."""
        return ParamsView({name: getattr(self, name) for name in sections})


class ParamsView:
    """Declared sections of the params; any other raises ``AttributeError``.

    ``dvc.yaml`` lists what a stage declares, so a stage that could read more would not be run
    again when it should be.
    """

    def __init__(self, sections: dict[str, Any]) -> None:
        self._sections = sections

    def __getattr__(self, name: str) -> Any:
        try:
            return self._sections[name]
        except KeyError:
            raise AttributeError(
                f"section {name!r} is not declared for this stage in geobody/paths.py"
            ) from None

    def plain(self) -> dict[str, Any]:
        """The sections as dicts, lists and scalars, for a fingerprint."""
        return {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in self._sections.items()
        }


def load_params(path: Path) -> Params:
    """The validated params; raises ``ParamsError`` naming ``file: section.key``, value and rule."""
    values = read_yaml(path)
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        if first["type"] == "extra_forbidden":
            raise ParamsError(
                f"{path.name}: {key}: unknown key; remove it or mend its spelling{more}"
            ) from None
        if first["type"] == "missing":
            raise ParamsError(f"{path.name}: {key}: missing; add it{more}") from None
        rule = first["msg"].removeprefix("Value error, ")
        raise ParamsError(f"{path.name}: {key}: {first['input']!r} is wrong: {rule}{more}") from None
    _check_shares(params, path.name)
    _check_start(params, path.name)
    return params


def _check_start(params: Params, file: str) -> None:
    """Raises ``ParamsError`` when nothing has learned what the first predictions of unlabelled views would rest on."""
    tuning, semi_supervised = params.tuning, params.pose_head.kind == "semi_supervised"
    first_steps = round(tuning.first_share * tuning.steps)
    if semi_supervised and not first_steps and "scratch" in (tuning.start, params.encdec.arm):
        raise ParamsError(
            f"{file}: tuning.first_share: {tuning.first_share:g} is wrong for an encoder from scratch, which has "
            "learned nothing to predict by; set it to 0.4, or tuning.start to pretext and encdec.arm to an arm that "
            "is trained"
        )


def _check_shares(params: Params, file: str) -> None:
    """Raises ``ParamsError`` when a training has fewer than ``LEAST_SHARE`` items for each of its processes."""
    count = params.training.processes
    batches = {
        "encdec.batch_size": params.encdec.batch_size // IMAGES_OF_AN_ITEM,
        "pose_head.batch_size": params.pose_head.batch_size,
        "gan_prior.batch_size": params.gan_prior.batch_size,
        "smpl_regressor.batch_size": params.smpl_regressor.batch_size,
        "smpl_regressor.instants": params.smpl_regressor.instants,
    }
    for key, items in batches.items():
        if count > 1 and items < LEAST_SHARE * count:
            size = LEAST_SHARE * count * (IMAGES_OF_AN_ITEM if key.startswith("encdec") else 1)
            most = max(1, items // LEAST_SHARE)
            raise ParamsError(
                f"{file}: training.processes: {count} is wrong: each takes {LEAST_SHARE} items of a batch at "
                f"least, so {key} allows {most}; lower it, or set {key} to {size} or more"
            )
