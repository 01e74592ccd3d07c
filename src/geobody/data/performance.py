"""One performance: legs, hands and torso of a person doing something for a while.

The legs go along a path, stand, stoop, or sit; the hands visit places (mouth, ear, hip, lap, ...) in
random order; both follow by inverse kinematics. ``actions`` says what to perform, this module how.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geobody.data import gait
from geobody.data.kinematics import ANKLE_HEIGHT_M, JOINT, arm_rotations, leg_rotations
from geobody.data.motions import Motion

Array = NDArray[np.float64]

HANDS: Final[dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]]] = {
    "hang": ((0.225, -0.375, 0.09), (0.25, 0.0, -1.0), 0.025),
    "hip": ((0.215, -0.26, 0.08), (1.0, 0.0, -0.55), 0.02),
    "pocket": ((0.225, -0.35, 0.11), (0.6, 0.0, -1.0), 0.02),
    "behind": ((0.1, -0.29, -0.12), (1.0, 0.0, -0.6), 0.02),
    "front": ((0.145, -0.07, 0.41), (0.6, -1.0, -0.3), 0.08),
    "wide": ((0.395, -0.05, 0.32), (0.4, -1.0, -0.4), 0.08),
    "point": ((0.255, 0.13, 0.5), (0.4, -1.0, 0.0), 0.12),
    "aside": ((0.575, 0.09, 0.24), (0.0, -1.0, -0.4), 0.10),
    "up": ((0.355, 0.39, 0.2), (1.0, -0.3, 0.3), 0.08),
    "wave": ((0.375, 0.29, 0.24), (0.8, -1.0, 0.0), 0.09),
    "shake": ((0.135, -0.07, 0.5), (0.5, -1.0, -0.5), 0.04),
    "mouth": ((0.085, 0.13, 0.28), (0.8, -1.0, 0.2), 0.015),
    "ear": ((0.15, 0.21, 0.12), (0.8, -1.0, 0.3), 0.015),
    "camera": ((0.11, 0.24, 0.34), (0.9, -1.0, 0.2), 0.03),
    "chin": ((0.08, 0.1, 0.27), (0.6, -1.0, 0.2), 0.02),
    "head": ((0.15, 0.38, 0.05), (1.0, 0.5, 0.4), 0.03),
    "table": ((0.165, -0.19, 0.44), (0.8, -1.0, -0.3), 0.05),
    "lap": ((0.125, -0.31, 0.33), (1.0, -0.4, -0.5), 0.04),
    "seat": ((0.29, -0.4, 0.05), (0.6, 0.0, -1.0), 0.02),
    "prop": ((0.315, -0.43, -0.14), (0.6, 0.0, -1.0), 0.04),
    "crossed": ((-0.055, -0.08, 0.31), (0.8, -1.0, 0.1), 0.02),
    "leash": ((0.175, -0.24, 0.41), (0.6, -0.6, -1.0), 0.06),
    "bag": ((0.235, -0.39, 0.09), (0.3, 0.0, -1.0), 0.02),
    "carry": ((0.125, -0.17, 0.36), (1.0, -1.0, -0.4), 0.03),
    "low": ((0.155, -0.35, 0.44), (0.8, -0.3, -0.6), 0.05),
    "shelf": ((0.195, 0.31, 0.44), (0.9, -1.0, 0.0), 0.07),
    "partner": ((0.4, -0.33, 0.12), (0.5, 0.0, -1.0), 0.02),
    "swing": ((0.22, -0.38, 0.07), (0.2, 0.0, -1.0), 0.015),
}
"""Place of a wrist in the chest's frame (outwards, up, forwards; metres), the elbow's pole, its spread."""

Choice = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Action:
    """What an action is made of.

    ``legs``: ways with weights. ``main`` and ``other``: places of the leading and the other hand with
    weights. ``together``: how often both hands go to the same place. ``hold_s``: how long a hand stays.
    ``look_down``: radians that the head is lowered. ``turn``: deviation of a turn on the spot, radians;
    ``stray_m``: of a change of place. ``bend``: how deep bows go. ``real``: share of the time in which
    real takes move the arms.
    """

    legs: Choice
    main: Choice
    other: Choice
    together: float = 0.0
    hold_s: tuple[float, float] = (0.7, 2.2)
    look_down: float = 0.05
    turn: float = 0.7
    stray_m: float = 0.12
    bend: float = 0.0
    real: float = 0.0
    speed_m_s: float = 1.0


@dataclass(frozen=True)
class Style:
    """How one person moves."""

    tempo: float
    lean: float
    hunch: float
    swing: float
    elbows: float
    width_m: float
    toe_out: float
    head: float
    liveliness: float
    left_handed: bool


def pick(rng: np.random.Generator, choice: Choice) -> str:
    """One name of a weighted choice."""
    weights = np.array([weight for _, weight in choice], dtype=float)
    return choice[int(rng.choice(len(choice), p=weights / weights.sum()))][0]


def _place(rng: np.random.Generator, hand: str, style: Style) -> Array:
    """One visit to a hand's place: wrist and elbow pole (6,), outwards positive."""
    wrist, pole, spread = HANDS[hand]
    jitter = np.clip(rng.standard_normal(3), -1.8, 1.8) * spread
    out = np.array([style.elbows, 0.0, 0.0]) + rng.normal(0, 0.15, 3)
    return np.concatenate([np.asarray(wrist) + jitter, np.asarray(pole) + out])


def _outside(wrist: Array) -> Array:
    """Wrists (T,3) moved out of an upright elliptic trunk, away from the shoulder and out of the head."""
    half, middle = np.array([0.20, 0.16]), np.array([0.0, 0.055])
    flat = (wrist[:, [0, 2]] - middle) / half
    radius = np.linalg.norm(flat + np.array([0.1, 0.0]), axis=1, keepdims=True)
    direction = (flat + np.array([0.1, 0.0])) / np.maximum(radius, 1e-6)
    inside = np.clip((0.17 - wrist[:, 1:2]) / 0.08, 0, 1)
    out = wrist.copy()
    out[:, [0, 2]] += half * direction * np.maximum(1.05 - radius, 0) * inside
    # Close to the shoulder an arm has no direction: it passes in front instead.
    close = 0.20 - np.linalg.norm(out - np.array([0.174, 0.087, 0.048]), axis=1, keepdims=True)
    out += 1.7 * np.maximum(close, 0) * np.array([0.5, 0.0, 0.87])
    head = np.array([0.0, 0.33, 0.08])
    gap = np.linalg.norm(out - head, axis=1, keepdims=True)
    return np.asarray(out + (out - head) / np.maximum(gap, 1e-6) * np.maximum(0.17 - gap, 0))


def _hands(
    rng: np.random.Generator, action: Action, style: Style, frames: int
) -> tuple[Array, Array, Array, Array]:
    """Wrist and pole (T,6) of the main and the other hand, and how much each swings (T,)."""
    tracks: list[Array] = []
    swings: list[Array] = []
    times = gait.key_times(rng, frames, *action.hold_s) / style.tempo
    names: list[list[str]] = [[], []]
    for _ in times:
        name = pick(rng, action.main)
        names[0].append(name)
        names[1].append(name if rng.random() < action.together else pick(rng, action.other))
    for which in range(2):
        keys = np.stack([_place(rng, name, style) for name in names[which]])
        own = times + (0 if which == 0 else rng.uniform(-0.15, 0.4))
        track = gait.keyed(own, keys, frames, 0.8 / style.tempo)
        track[:, :3] += (
            0.012 * style.liveliness * gait.smooth_noise(rng, frames=frames, knot_s=0.5, channels=3)
        )
        free = np.array([[1.0 if name == "swing" else 0.0] for name in names[which]])
        tracks.append(np.concatenate([_outside(track[:, :3]), track[:, 3:]], axis=1))
        swings.append(gait.keyed(own, free, frames, 0.8 / style.tempo)[:, 0])
    return tracks[0], tracks[1], swings[0], swings[1]


@dataclass(frozen=True)
class Legs:
    """Path of the pelvis (T,3), its heading (T,), tilt (T,) and feet, with the knees' poles (T,2,3)."""

    pelvis: Array
    heading: Array
    tilt: Array
    feet: gait.Feet
    poles: Array


def _poles(frames: int, out: float, up: float = 0.3) -> Array:
    pole = np.array([[out, up, 1.0], [-out, up, 1.0]])
    return np.repeat(pole[None], frames, axis=0)


def upright_legs(
    rng: np.random.Generator, way: str, action: Action, style: Style, frames: int, heading: float
) -> Legs:
    """Legs of someone who stands, walks, strolls, stoops or crouches."""
    tilt = np.zeros(frames)
    drop = np.zeros(frames)
    if way in ("walk", "stroll"):
        speed = action.speed_m_s * style.tempo * (1.0 if way == "walk" else 0.55)
        place, facing = gait.walking_path(rng, frames, speed_m_s=speed, heading=heading)
        step_s = np.clip(0.62 - 0.1 * speed, 0.42, 0.65) / style.tempo**0.5
    else:
        place, facing = gait.standing_path(
            rng, frames, turn=action.turn, stray_m=action.stray_m, heading=heading
        )
        step_s = 0.5 / style.tempo
    if way in ("stoop", "crouch"):
        times = gait.key_times(rng, frames, 1.2, 2.6)
        low = np.where(rng.random(len(times)) < 0.6, rng.uniform(0.4, 1.0, len(times)), 0.0)[:, None]
        depth = gait.keyed(times, low, frames, 0.9)[:, 0]
        drop, tilt = 0.38 * depth, (0.35 if way == "stoop" else 0.15) * depth
    sway = gait.smooth_noise(rng, frames=frames, knot_s=1.3, channels=2)
    if way in ("stand", "stoop", "crouch"):
        across = np.column_stack([np.cos(facing), -np.sin(facing)])
        place = place + 0.035 * style.liveliness * sway[:, :1] * across
        drop = drop + 0.006 * (1 + sway[:, 1]) * style.liveliness
    feet = gait.footsteps(place, facing, step_s=float(step_s), width_m=style.width_m, toe_out=style.toe_out)
    if way == "crouch":
        # Deep down, the heels leave the floor.
        heel = 0.75 * np.clip(drop / 0.38 - 0.3, 0, 1)[:, None]
        raised = feet.position + np.stack([0 * heel, 0.12 * np.sin(heel), 0 * heel], axis=-1)
        feet = gait.Feet(raised, feet.heading, feet.pitch + heel)
    wanted = gait.STAND_M - 0.002 - drop
    height = gait.pelvis_height(place, feet, wanted)
    pelvis = np.column_stack([place[:, 0], height, place[:, 1]])
    return Legs(pelvis, facing, tilt, feet, _poles(frames, 0.15 + style.toe_out))


SEATS: Final = (
    # pelvis height, then for each foot (outwards, forwards), ankle height, knee pole outwards
    ((0.50, (0.12, 0.42), (0.12, 0.42), (0.08, 0.08), 0.15), 3.0),
    ((0.49, (0.16, 0.25), (0.14, 0.40), (0.09, 0.08), 0.25), 2.0),
    ((0.50, (0.10, 0.62), (0.12, 0.58), (0.08, 0.08), 0.10), 2.0),
    ((0.50, (-0.03, 0.56), (0.04, 0.60), (0.10, 0.08), 0.25), 1.0),
    ((0.50, (0.26, 0.40), (0.26, 0.38), (0.08, 0.08), 0.50), 2.0),
    ((0.54, (0.10, 0.30), (0.13, 0.45), (0.12, 0.08), 0.20), 1.0),
)
FLOORS: Final = (
    ((0.11, (0.02, 0.30), (-0.02, 0.38), (0.07, 0.08), 1.6), 2.0),
    ((0.11, (0.10, 0.80), (0.12, 0.78), (0.07, 0.07), 0.10), 2.0),
    ((0.11, (0.10, 0.42), (0.12, 0.45), (0.08, 0.08), 0.10), 2.0),
    ((0.11, (0.12, 0.78), (0.10, 0.40), (0.07, 0.08), 0.15), 2.0),
    ((0.11, (0.22, 0.60), (0.24, 0.65), (0.08, 0.08), 0.30), 1.0),
)


def seated_legs(
    rng: np.random.Generator, way: str, action: Action, style: Style, frames: int, heading: float
) -> Legs:
    """Legs of someone on a chair or on the floor, who shifts their feet; "sit_down" begins on them."""
    table = FLOORS if way == "floor" else SEATS
    weights = np.array([weight for _, weight in table])
    times = gait.key_times(rng, frames, 1.5, 3.5)
    keys = []
    base = int(rng.choice(len(table), p=weights / weights.sum()))
    for _ in times:
        which = base if way == "floor" else int(rng.choice(len(table), p=weights / weights.sum()))
        _, left, right, ankles, out = table[which][0]
        feet = np.array([[left[0], ankles[0], left[1]], [-right[0], ankles[1], right[1]]])
        feet[:, [0, 2]] += rng.normal(0, 0.025, (2, 2))
        keys.append(np.concatenate([feet.ravel(), [out + rng.normal(0, 0.05)]]))
    track = gait.keyed(times, np.stack(keys), frames, 0.8)
    facing = (
        heading
        + gait.keyed(times, np.cumsum(rng.normal(0, action.turn, (len(times), 1)), axis=0), frames, 1.3)[:, 0]
    )
    seat = table[base][0][0]
    height = (
        np.full(frames, seat) + 0.006 * gait.smooth_noise(rng, frames=frames, knot_s=0.8, channels=1)[:, 0]
    )
    lean_back = -0.12 if way != "floor" else -0.2
    tilt = lean_back + 0.06 * gait.smooth_noise(rng, frames=frames, knot_s=1.5, channels=1)[:, 0]
    back = np.zeros(frames)
    if way == "sit_down":
        starts = np.cumsum(
            np.concatenate([[0.0], rng.uniform(1.6, 3.0, 2 + int(frames / gait.RATE_HZ / 1.6))])
        )
        up = (np.arange(len(starts)) + int(rng.integers(2))) % 2
        rise = gait.keyed(starts, up[:, None].astype(float), frames, 1.3)[:, 0]
        feet_close = np.array([0.1, ANKLE_HEIGHT_M, 0.30, -0.1, ANKLE_HEIGHT_M, 0.30])
        track[:, :6] = feet_close + rng.normal(0, 0.02, 6) * np.array([1, 0, 1, 1, 0, 1])
        facing[:] = heading
        height = seat + (gait.STAND_M - 0.02 - seat) * rise
        back = 0.30 * rise
        tilt = tilt * (1 - rise) + 0.45 * np.sin(np.pi * np.clip(rise, 0, 1)) ** 1.5
    turn = Rotation.from_euler("Y", facing[:, None]).as_matrix()
    feet_local = track[:, :6].reshape(frames, 2, 3)
    place = 0.25 * rng.standard_normal(2)
    origin = np.array([place[0], 0.0, place[1]])
    position = origin + np.einsum("tij,tkj->tki", turn, feet_local)
    pelvis = origin + np.einsum("tij,tj->ti", turn, np.column_stack([0 * back, 0 * back, back]))
    pelvis[:, 1] = height
    toes = np.stack([facing + style.toe_out, facing - style.toe_out], axis=1)
    pitch = np.zeros((frames, 2))
    if way == "floor":
        reach = np.hypot(feet_local[:, :, 0], feet_local[:, :, 2])
        pitch = -0.9 * np.clip((reach - 0.5) / 0.25, 0, 1)
    poles = _poles(frames, 0.0, 0.8 if way == "floor" else 0.3)
    poles[:, 0, 0], poles[:, 1, 0] = track[:, 6], -track[:, 6]
    return Legs(pelvis, facing, tilt, gait.Feet(position, toes, pitch), poles)


def assemble(rng: np.random.Generator, legs: Legs, action: Action, style: Style) -> Motion:
    """Poses from legs, a moving torso and the hands' tracks."""
    frames = len(legs.heading)
    poses = np.zeros((frames, 24, 3))
    stride = np.zeros(frames)
    forward = gait.heading_vector(legs.heading)
    for k, sign in ((0, 1.0), (1, -1.0)):
        stride += sign * np.sum((legs.feet.position[:, k, [0, 2]] - legs.pelvis[:, [0, 2]]) * forward, axis=1)
    noise = style.liveliness * gait.smooth_noise(rng, frames=frames, knot_s=0.9, channels=9)
    bow = action.bend * np.maximum(
        gait.smooth_noise(rng, frames=frames, knot_s=1.1, channels=1)[:, 0] - 0.9, 0
    )
    angles = np.column_stack(
        [legs.heading - 0.12 * stride, legs.tilt + style.lean + 0.3 * bow, 0.03 * noise[:, 0]]
    )
    root = Rotation.from_euler("YXZ", angles)
    poses[:, 0] = root.as_rotvec()
    stoop = 1.2 * np.maximum(legs.tilt, 0)
    flex = style.hunch + 0.05 * noise[:, 1] + bow + stoop - 0.6 * np.minimum(legs.tilt, 0)
    twist = 0.10 * noise[:, 2] + 0.35 * stride * style.swing
    side = 0.06 * noise[:, 3]
    for joint, share in (("spine1", 0.35), ("spine2", 0.35), ("spine3", 0.3)):
        poses[:, JOINT[joint]] = share * np.column_stack([flex, twist, side])
    nod = action.look_down + style.head - 0.5 * style.hunch - 0.4 * stoop + 0.08 * noise[:, 4]
    look = np.column_stack([nod, 0.28 * noise[:, 5] - 0.5 * twist, 0.06 * noise[:, 6]])
    poses[:, JOINT["neck"]], poses[:, JOINT["head"]] = 0.5 * look, 0.5 * look
    main, other, main_swing, other_swing = _hands(rng, action, style, frames)
    for sign, track, swings in ((1, main, main_swing), (-1, other, other_swing)):
        wrist = track[:, :3].copy()
        # An arm goes forward with the opposite leg.
        ahead = -sign * stride * style.swing * (0.12 + 0.5 * swings)
        wrist[:, 2] += ahead * (0.5 + 0.5 * swings)
        wrist[:, 1] += 0.3 * np.abs(ahead) * swings
        mirrored = np.array([sign, 1.0, 1.0])
        prefix = "left_" if sign > 0 else "right_"
        collar, shoulder, elbow = arm_rotations(wrist * mirrored, track[:, 3:] * mirrored, sign)
        poses[:, JOINT[prefix + "collar"]] = collar
        poses[:, JOINT[prefix + "shoulder"]], poses[:, JOINT[prefix + "elbow"]] = shoulder, elbow
        bend = 0.12 * gait.smooth_noise(rng, frames=frames, knot_s=0.8, channels=3)
        poses[:, JOINT[prefix + "wrist"]] = bend
        k = 0 if sign > 0 else 1
        to_pelvis = np.swapaxes(root.as_matrix(), 1, 2)
        ankle = np.einsum("tij,tj->ti", to_pelvis, legs.feet.position[:, k] - legs.pelvis)
        facing = Rotation.from_euler("Y", legs.heading[:, None]).as_matrix()
        pole = np.einsum("tij,tjk,tk->ti", to_pelvis, facing, legs.poles[:, k])
        sole = to_pelvis @ gait.sole_rotations(legs.feet, sign)
        hip, knee, foot = leg_rotations(ankle, pole, sole, sign)
        poses[:, JOINT[prefix + "hip"]], poses[:, JOINT[prefix + "knee"]] = hip, knee
        poses[:, JOINT[prefix + "ankle"]] = foot
        toes = np.maximum(legs.feet.pitch[:, k], 0)
        poses[:, JOINT[prefix + "foot"], 0] = -0.6 * toes
    return Motion(poses, legs.pelvis, "", "")
