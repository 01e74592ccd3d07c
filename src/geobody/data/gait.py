"""Where people go and put their feet: paths, footsteps, and the height of the pelvis over them.

Floor coordinates are (x, z) of SMPL's y-up frame in metres; a heading is a rotation about y in
radians, zero facing +z.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from geobody.data.kinematics import ANKLE_HEIGHT_M, FIGURE_OFFSETS_M

Array = NDArray[np.float64]

RATE_HZ: Final = 30.0
LEG_M: Final = math.hypot(*FIGURE_OFFSETS_M[4]) + math.hypot(*FIGURE_OFFSETS_M[7])
HIP_DROP_M: Final = -FIGURE_OFFSETS_M[1][1]
STAND_M: Final = ANKLE_HEIGHT_M + 0.994 * LEG_M + HIP_DROP_M
ROOM_RADIUS_M: Final = 1.0


@dataclass(frozen=True)
class Feet:
    """Ankles and soles over time: position (T,2,3) metres (left, right), heading (T,2), pitch (T,2) radians.

    A positive pitch lifts the heel.
    """

    position: Array
    heading: Array
    pitch: Array


def smooth_noise(rng: np.random.Generator, *, frames: int, knot_s: float, channels: int) -> Array:
    """Noise (frames, channels) of about unit deviation: a cubic through normal knots ``knot_s`` apart."""
    knots = int(np.ceil(frames / RATE_HZ / knot_s)) + 3
    values = rng.standard_normal((knots, channels))
    spline = CubicSpline((np.arange(knots) - rng.uniform(0.5, 1.5)) * knot_s, values)
    return np.asarray(spline(np.arange(frames) / RATE_HZ))


def keyed(times: Array, values: Array, frames: int, ease_s: float) -> Array:
    """Values (frames, C) that rest at each key and move to the next within ``ease_s``, without a jerk."""
    t = np.arange(frames) / RATE_HZ
    out = np.repeat(values[:1], frames, axis=0)
    for start, before, after in zip(times[1:], values[:-1], values[1:], strict=True):
        u = np.clip((t - start) / ease_s, 0, 1)[:, None]
        out += (after - before) * (10 * u**3 - 15 * u**4 + 6 * u**5)
    return out


def key_times(rng: np.random.Generator, frames: int, shortest_s: float, longest_s: float) -> Array:
    """Increasing times in seconds, the first zero, that cover ``frames`` with random gaps."""
    times = [0.0]
    while times[-1] < frames / RATE_HZ:
        times.append(times[-1] + rng.uniform(shortest_s, longest_s))
    return np.asarray(times)


def heading_vector(heading: Array) -> Array:
    """Floor direction (..., 2) that a heading faces."""
    return np.stack([np.sin(heading), np.cos(heading)], axis=-1)


def standing_path(
    rng: np.random.Generator, frames: int, *, turn: float, stray_m: float, heading: float
) -> tuple[Array, Array]:
    """Position (T,2) and heading (T,) of someone who stays about one place and turns now and then.

    ``turn``: deviation of a turn in radians; ``stray_m``: of a change of place.
    """
    times = key_times(rng, frames, 1.4, 3.2)
    turns = np.cumsum(rng.normal(0, turn, len(times)))
    places = np.clip(rng.normal(0, stray_m, (len(times), 2)), -0.6, 0.6)
    keys = np.column_stack([heading + turns - turns[0], places])
    path = keyed(times, keys, frames, 1.2)
    path[:, 1:] += 0.02 * smooth_noise(rng, frames=frames, knot_s=1.0, channels=2)
    path[:, 0] += 0.06 * smooth_noise(rng, frames=frames, knot_s=1.2, channels=1)[:, 0]
    return path[:, 1:], path[:, 0]


def walking_path(
    rng: np.random.Generator, frames: int, *, speed_m_s: float, heading: float
) -> tuple[Array, Array]:
    """Position (T,2) and heading (T,) of someone who wanders about the middle of a room."""
    wander = 0.5 * smooth_noise(rng, frames=frames, knot_s=1.5, channels=1)[:, 0]
    curl = rng.choice([-1.0, 1.0])
    at = -0.5 * ROOM_RADIUS_M * heading_vector(np.asarray(heading)) + rng.normal(0, 0.2, 2)
    places, headings, rate = np.zeros((frames, 2)), np.zeros(frames), 0.0
    for i in range(frames):
        places[i], headings[i] = at, heading
        ahead = at + 0.5 * heading_vector(np.asarray(heading))
        inward = np.arctan2(-ahead[0], -ahead[1]) - heading
        inward = (inward + np.pi) % (2 * np.pi) - np.pi
        urge = np.clip((np.hypot(*ahead) - 0.35) / (ROOM_RADIUS_M - 0.35), 0, 1.6)
        away = curl * abs(inward) if abs(inward) > 2.2 else inward
        wanted = wander[i] * (1 - min(urge, 0.8)) + 1.4 * urge * np.clip(away, -1.2, 1.2)
        rate += (wanted - rate) * 0.15
        heading += rate / RATE_HZ
        pace = speed_m_s * (1 - 0.3 * min(abs(rate) / 1.8, 1.0))
        at = at + pace / RATE_HZ * heading_vector(np.asarray(heading))
    return places, headings


def footsteps(
    place: Array, heading: Array, *, step_s: float, width_m: float, toe_out: float, lift_m: float = 0.09
) -> Feet:
    """Feet that stand where they stand until the body has moved on, then step to where it will be.

    ``place`` (T,2), ``heading`` (T,): the pelvis' path; ``step_s``: time of one step; ``width_m``:
    half the distance of the feet; ``toe_out``: radians.
    """
    frames, step = len(heading), max(2, round(step_s * RATE_HZ))
    sides = (1, -1)

    def ideal(frame: int, side: int) -> tuple[Array, float]:
        # Half a step beyond the landing, so that the body passes over the foot in mid stance.
        at = min(frame + step // 2, frames - 1)
        ahead = place[at] if frame + step // 2 < frames else place[-1]
        across = np.array([np.cos(heading[at]), -np.sin(heading[at])])
        return ahead + side * width_m * across, heading[at] + side * toe_out

    position, yaw, pitch = np.zeros((frames, 2, 3)), np.zeros((frames, 2)), np.zeros((frames, 2))
    stands = [ideal(0, s) for s in sides]
    for k in range(2):
        position[:, k, [0, 2]], yaw[:, k] = stands[k]
    position[:, :, 1] = ANKLE_HEIGHT_M
    frame, last = 0, 1
    clock = np.arange(frames)
    while frame < frames:
        moves = []
        for k, side in enumerate(sides):
            goal, turn = ideal(frame + step, side)
            gap = float(np.linalg.norm(goal - stands[k][0])) + 0.25 * abs(turn - stands[k][1])
            moves.append((gap - (0.05 if k == last else 0.0), k, goal, turn))
        gap, k, goal, turn = max(moves, key=lambda move: move[0])
        if gap < 0.09:
            frame += 2
            continue
        start, end = frame, min(frame + step, frames - 1)
        u = np.clip((np.arange(start, frames) - start) / step, 0, 1)[:, None]
        ease = 10 * u**3 - 15 * u**4 + 6 * u**5
        old, old_yaw = stands[k]
        position[start:, k, 0] = (old + (goal - old) * ease)[:, 0]
        position[start:, k, 2] = (old + (goal - old) * ease)[:, 1]
        yaw[start:, k] = old_yaw + (turn - old_yaw) * ease[:, 0]
        length = float(np.linalg.norm(goal - old))
        position[start:, k, 1] += lift_m * np.clip(0.5 + length, 0, 1) * np.sin(np.pi * u[:, 0]) ** 2
        swing = np.clip(length / 0.9, 0, 1)
        pitch[:, k] += 0.75 * swing * np.exp(-0.5 * ((clock - start - 0.1 * step) / (0.28 * step)) ** 2)
        pitch[:, k] -= 0.35 * swing * np.exp(-0.5 * ((clock - end) / (0.2 * step)) ** 2)
        stands[k] = (goal, turn)
        last, frame = k, frame + step
    position[:, :, 1] += 0.12 * np.sin(np.maximum(pitch, 0))
    return Feet(position, yaw, pitch)


def pelvis_height(place: Array, feet: Feet, wanted_m: Array) -> Array:
    """Heights (T,) of the pelvis: as wanted, but never so high that a standing foot would leave the floor."""
    apart = np.linalg.norm(feet.position[:, :, [0, 2]] - place[:, None], axis=-1)
    apart = np.maximum(apart - FIGURE_OFFSETS_M[1][0], 0)
    highest = feet.position[:, :, 1] + np.sqrt(np.maximum((0.995 * LEG_M) ** 2 - apart**2, 0.04)) + HIP_DROP_M
    return np.asarray(gaussian_filter1d(np.minimum(wanted_m, highest.min(axis=1)), 2.0, mode="nearest"))


def sole_rotations(feet: Feet, side: int) -> NDArray[np.float64]:
    """Orientation (T,3,3) of one foot in the room; ``side`` +1 left, -1 right."""
    k = 0 if side > 0 else 1
    angles = np.column_stack([feet.heading[:, k], feet.pitch[:, k]])
    return Rotation.from_euler("YX", angles).as_matrix()
