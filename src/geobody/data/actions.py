"""Fifteen everyday actions under Human3.6M's names, and varied sequences for a pose prior.

An action is a way for the legs and places for the hands, performed by ``performance``; snippets of
real takes move torso and arms on top. Each subject has a style (posture, tempo, swing, handedness) and
blocks of real takes of their own, so that no two share a frame.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geobody.conventions import EVALUATION_SUBJECTS, H36M_ACTIONS
from geobody.data import gait
from geobody.data.kinematics import JOINT
from geobody.data.motions import (
    EVALUATION_SHARES,
    Block,
    Motion,
    crossfade,
    load_motions,
    mirror,
    resample,
    split_of_motion,
    stretch,
    subject_blocks,
    turned,
)
from geobody.data.performance import Action, Style, assemble, pick, seated_legs, upright_legs

Array = NDArray[np.float64]

ACTIONS: Final[dict[str, Action]] = {
    "Directions": Action(
        (("stand", 1.0),), (("point", 4), ("aside", 3), ("up", 1), ("front", 1), ("wide", 1)),
        (("hang", 3), ("hip", 2), ("point", 1), ("aside", 1)), 0.15, real=0.3,
    ),
    "Discussion": Action(
        (("stand", 1.0),), (("front", 4), ("wide", 3), ("chin", 1), ("hip", 1), ("point", 1), ("crossed", 1)),
        (("front", 3), ("wide", 2), ("hang", 2), ("hip", 1)), 0.45, real=0.35,
    ),
    "Eating": Action(
        (("chair", 3.0), ("stand", 1.0)), (("mouth", 4), ("table", 3)),
        (("table", 4), ("lap", 1), ("carry", 2)),
        hold_s=(0.5, 1.4), look_down=0.2, turn=0.35,
    ),
    "Greeting": Action(
        (("stand", 1.0),), (("wave", 4), ("shake", 3), ("up", 2), ("hang", 1)),
        (("hang", 4), ("hip", 1), ("shake", 1), ("wide", 1)), 0.2, (0.5, 1.5), bend=0.35, real=0.3,
    ),
    "Phoning": Action(
        (("stand", 2.0), ("stroll", 1.5), ("chair", 1.0)), (("ear", 9), ("front", 1)),
        (("hang", 2), ("hip", 2), ("front", 2), ("pocket", 2), ("crossed", 1)), hold_s=(1.2, 3.0),
    ),
    "Posing": Action(
        (("stand", 1.0),),
        (("hip", 3), ("head", 2), ("crossed", 2), ("up", 1), ("aside", 1), ("chin", 1), ("behind", 1)),
        (("hip", 3), ("hang", 2), ("behind", 1), ("head", 1), ("wide", 1)),
        0.35, (0.9, 2.0), turn=1.0, real=0.5,
    ),
    "Purchases": Action(
        (("stroll", 2.0), ("stand", 1.0), ("stoop", 2.0)),
        (("bag", 3), ("low", 2), ("shelf", 3), ("carry", 2)),
        (("bag", 4), ("hang", 1), ("carry", 2)), 0.3, look_down=0.15, stray_m=0.2, real=0.2,
    ),
    "Sitting": Action(
        (("chair", 1.0),), (("lap", 3), ("front", 2), ("seat", 2), ("chin", 1), ("crossed", 1), ("wide", 1)),
        (("lap", 4), ("seat", 2), ("crossed", 1), ("front", 1)), 0.3, turn=0.3,
    ),
    "SittingDown": Action(
        (("floor", 2.0), ("sit_down", 1.5)), (("lap", 3), ("prop", 2), ("front", 2), ("low", 2)),
        (("lap", 3), ("prop", 3), ("low", 1)), 0.4, turn=0.3,
    ),
    "Smoking": Action(
        (("stand", 1.5), ("chair", 2.0), ("stroll", 0.5)),
        (("mouth", 5), ("hang", 2), ("wide", 1), ("lap", 1)),
        (("hang", 2), ("pocket", 2), ("lap", 1), ("crossed", 2)), hold_s=(0.6, 1.6),
    ),
    "Photo": Action(
        (("stand", 1.5), ("crouch", 1.0), ("stroll", 0.5)), (("camera", 7), ("carry", 2), ("hang", 1)),
        (("camera", 5), ("carry", 2), ("hang", 1)), 0.9, (0.8, 2.2), turn=0.9,
    ),
    "Waiting": Action(
        (("stand", 2.0), ("stroll", 1.0), ("chair", 0.5)),
        (("hip", 2), ("pocket", 2), ("crossed", 3), ("head", 1), ("hang", 2)),
        (("hip", 2), ("pocket", 2), ("hang", 2), ("behind", 1), ("chin", 1)),
        0.5, (1.2, 3.0), turn=0.9, real=0.15,
    ),
    "Walking": Action((("walk", 1.0),), (("swing", 1),), (("swing", 1),), speed_m_s=1.15, look_down=0.08),
    "WalkDog": Action(
        (("walk", 1.0),), (("leash", 5), ("point", 1)), (("swing", 5), ("leash", 2)), hold_s=(0.8, 2.0),
        look_down=0.3, bend=0.3, speed_m_s=0.9,
    ),
    "WalkTogether": Action(
        (("walk", 1.0),), (("partner", 5), ("front", 1)), (("swing", 4), ("front", 1), ("wide", 1)),
        hold_s=(1.2, 3.0), look_down=0.05, speed_m_s=1.0,
    ),
}  # fmt: skip


_TORSO: Final = tuple(JOINT[name] for name in ("spine1", "spine2", "spine3", "neck", "head"))
_ARMS: Final = {
    side: tuple(JOINT[f"{side}_{name}"] for name in ("collar", "shoulder", "elbow", "wrist"))
    for side in ("left", "right")
}


def style_of(subject: int, seed: int) -> Style:
    """The style of a subject: the same for all of their sequences under one seed."""
    rng = np.random.default_rng([seed, 77, subject])
    start = np.random.default_rng([seed, 78]).random(2)
    # Additive recurrences spread tempo and swing evenly over the few subjects there are.
    tempo = (start[0] + 0.618034 * subject) % 1
    swing = (start[1] + 0.754878 * subject) % 1
    return Style(
        tempo=0.85 + 0.4 * tempo, lean=rng.normal(0, 0.05), hunch=rng.uniform(-0.05, 0.22),
        swing=0.6 + 0.8 * swing, elbows=rng.uniform(-0.25, 0.4), width_m=rng.uniform(0.08, 0.15),
        toe_out=rng.uniform(0.05, 0.35), head=rng.normal(0, 0.08), liveliness=rng.uniform(0.7, 1.4),
        left_handed=bool(rng.random() < 0.4),
    )  # fmt: skip


def _snippet(rng: np.random.Generator, blocks: list[Block], frames: int) -> Array:
    """Poses (frames,24,3) of a random part of a random block, longer blocks more often, maybe mirrored."""
    lengths = np.array([len(block.motion) for block in blocks], dtype=float)
    motion = blocks[int(rng.choice(len(blocks), p=lengths / lengths.sum()))].motion
    motion = stretch(
        motion, frames, start_s=rng.uniform(0, len(motion) / gait.RATE_HZ), tempo=rng.uniform(0.7, 1.1)
    )
    return mirror(motion).poses if rng.random() < 0.5 else motion.poses


def _with_takes(
    rng: np.random.Generator, poses: Array, blocks: list[Block], *, arms: float, torso: float = 0.6
) -> Array:
    """Poses whose torso sways as in real takes and whose arms are a real take's for a share of the time."""
    frames, mixed = len(poses), poses.copy()
    if not blocks:  # a small folder has no take for some subjects
        return mixed
    sway = _snippet(rng, blocks, frames)[:, _TORSO]
    mixed[:, _TORSO] += torso * np.clip(sway - sway.mean(axis=0), -0.35, 0.35)
    if arms == 0:
        return mixed
    times = gait.key_times(rng, frames, 1.0, 2.5)
    real = _snippet(rng, blocks, frames)
    for side in ("left", "right"):
        on = (rng.random((len(times), 1)) < arms).astype(float)
        weight = gait.keyed(times, on, frames, 0.7)
        mixed[:, _ARMS[side]] = crossfade(mixed[:, _ARMS[side]], real[:, _ARMS[side]], weight)
    return mixed


def _perform(
    rng: np.random.Generator, spec: Action, style: Style, blocks: list[Block], *, frames: int, heading: float
) -> Motion:
    """One performance at 30 Hz."""
    way = pick(rng, spec.legs)
    make = seated_legs if way in ("chair", "floor", "sit_down") else upright_legs
    legs = make(rng, way, spec, style, frames, heading)
    motion = assemble(rng, legs, spec, style)
    poses = _with_takes(rng, motion.poses, blocks, arms=0.0 if make is seated_legs else spec.real)
    motion = Motion(poses, motion.transl_m, "", "")
    return mirror(motion) if style.left_handed != (rng.random() < 0.15) else motion


def action_sequence(
    *,
    action: int,
    subject: int,
    subaction: int,
    frames: int,
    fps: float,
    seed: int,
    motions: Path,
    start_s: float = 0.0,
) -> Motion:
    """A subject's performance of one of Human3.6M's actions: ``frames`` poses at ``fps``.

    ``action``: 2 to 16, see ``conventions.H36M_ACTIONS``; ``subject``: one of the seven or a body for
    evaluation (those past ``EVALUATION_SHARES`` begin again with the takes of the first); ``motions``:
    folder of real takes; ``start_s``: when the first frame is, from the performance's beginning. The
    same arguments give the same bytes. ``split`` of the result is the subject's. Raises DataError for a
    folder without usable clips.
    """
    owner = subject
    if subject in EVALUATION_SUBJECTS:
        owner = EVALUATION_SUBJECTS[EVALUATION_SUBJECTS.index(subject) % EVALUATION_SHARES]
    blocks = subject_blocks(load_motions(motions))[owner]
    rng = np.random.default_rng([seed, subject, action, subaction])
    inner = int(np.ceil((start_s + (frames - 1) / fps) * gait.RATE_HZ)) + 2
    # The golden angle spreads the first headings of all sequences over the circle.
    heading = 2.399963 * (action + 15 * subject + 7 * subaction) + rng.normal(0, 0.3)
    motion = _perform(
        rng, ACTIONS[H36M_ACTIONS[action]], style_of(subject, seed), blocks, frames=inner, heading=heading
    )
    motion = resample(motion, start_s + np.arange(frames) / fps, gait.RATE_HZ)
    name = f"s{subject:02d}_{H36M_ACTIONS[action]}_{subaction}"
    return Motion(motion.poses, motion.transl_m, name, split_of_motion(subject))


def surreal_sequences(
    *, count: int, frames: int, seed: int, motions: Path, subjects: Sequence[int]
) -> list[Motion]:
    """``count`` varied sequences of ``frames`` poses at 30 Hz from the motion of ``subjects`` alone.

    By turns a real snippet, a performance of a random action in a style of its own, and a mix: the
    legs and root of one with the upper body of others; half of them mirrored, all turned about.
    Other subjects share neither a frame of a take nor a random number with these.
    """
    blocks = subject_blocks(load_motions(motions))
    own = [block for subject in subjects for block in blocks[subject]]
    specs = list(ACTIONS.values())
    sequences = []
    for number in range(count):
        rng = np.random.default_rng([seed, 4242, *subjects, number])
        spec, style = specs[int(rng.integers(len(specs)))], style_of(int(rng.integers(1000, 2**31)), seed)
        acted = _perform(rng, spec, style, own, frames=frames, heading=rng.uniform(0, 2 * np.pi))
        kind = ("real", "act", "mix")[number % 3] if own else "act"
        if kind != "act":
            real = _snippet(rng, own, frames)
            upper = [j for j in range(24) if j in (*_TORSO, *_ARMS["left"], *_ARMS["right"])]
            poses = acted.poses.copy() if kind == "mix" else real
            if kind == "mix":
                poses[:, upper] = real[:, upper]
                side = _ARMS["left" if rng.random() < 0.5 else "right"]
                poses[:, side] = _snippet(rng, own, frames)[:, side]
            acted = Motion(poses, np.zeros((frames, 3)) if kind == "real" else acted.transl_m, "", "")
            acted = turned(acted, rng.uniform(0, 2 * np.pi))
        if rng.random() < 0.5:
            acted = mirror(acted)
        sequences.append(Motion(acted.poses, acted.transl_m, f"{kind}_{number:04d}", "train"))
    return sequences
