"""Motion of 24 SMPL joints: what it is, reading a folder of it, dividing it, and multiplying it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geobody.conventions import EVALUATION_SUBJECTS, SMPL_MIRROR, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.motion_files import RATE_HZ, read_bvh, read_deepmimic, retarget
from geobody.errors import DataError

Array = NDArray[np.float64]

MAIN_JOINTS: Final = (1, 2, 3, 4, 5, 6, 9, 12, 16, 17, 18, 19)
"""Hips, knees, shoulders, elbows, the spine's three joints and the neck: what makes a pose."""

GAP_S: Final = 1.0
"""Time left out between two subjects' blocks of one take."""

EVALUATION_SHARES: Final = 40
"""Into how many the part of the takes that bodies for evaluation move by is divided."""

_SHORTEST_BLOCK_S: Final = 1.5
_ENOUGH_TAKES_EACH: Final = 2
"""Long takes for each subject, and for the bodies for evaluation, from which on no take is shared.

With fewer, sharing is what gives everybody every kind of motion.
"""
_FOR_EVALUATION: Final = 0


@dataclass(frozen=True)
class Motion:
    """Poses of one body over time.

    ``poses`` (T,24,3): axis-angle, the root first; the root maps the body to a y-up room.
    ``transl_m`` (T,3): the pelvis in that room, metres. ``split``: "train", "test", "evaluation", or ""
    for a take that has not been divided.
    """

    poses: Array
    transl_m: Array
    name: str
    split: str

    def __len__(self) -> int:
        return len(self.poses)


@dataclass(frozen=True)
class Block:
    """A contiguous part of a take, frames ``start`` to ``stop`` at 30 Hz, that is one subject's alone."""

    motion: Motion
    take: str
    start: int
    stop: int


def _read_npz(path: Path) -> Motion:
    try:
        with np.load(path, allow_pickle=False) as data:
            poses, rate = np.asarray(data["poses"], dtype=np.float64), float(data["fps"])
            transl = np.asarray(data["transl_m"], dtype=np.float64) if "transl_m" in data else None
    except KeyError as error:
        raise DataError(
            path, f"has no array {error}", "convert the clip again with tools/convert_motions.py"
        ) from None
    except Exception as error:  # zipfile, numpy and zlib each raise their own for a broken file
        raise DataError(
            path, f"cannot be read ({error})", "restore it, or remove it from the folder"
        ) from None
    if poses.ndim != 2 or poses.shape[1] != 72 or len(poses) < 2 or not np.isfinite(poses).all():
        raise DataError(
            path,
            f"poses of shape {poses.shape} are not (2 or more, 72) finite numbers",
            "convert the clip again",
        )
    if not 1 <= rate <= 1000:
        raise DataError(path, f"fps {rate:g} is outside 1 to 1000", "convert the clip again")
    if transl is None:
        transl = np.zeros((len(poses), 3))
    if transl.shape != (len(poses), 3) or not np.isfinite(transl).all():
        raise DataError(
            path, f"transl_m of shape {transl.shape} does not match its poses", "convert the clip again"
        )
    return _at_rate(Motion(poses.reshape(-1, 24, 3), transl, path.stem, ""), rate)


def _at_rate(motion: Motion, rate_hz: float) -> Motion:
    if abs(rate_hz - RATE_HZ) < 0.01:
        return motion
    times = np.arange(0, (len(motion) - 1) / rate_hz + 1e-9, 1 / RATE_HZ)
    return resample(motion, times, rate_hz)


def read_motion(path: Path) -> Motion:
    """One clip at 30 Hz: ``.bvh``, DeepMimic ``.txt`` or this project's ``.npz``. Raises DataError."""
    if path.suffix == ".npz":
        return _read_npz(path)
    clip = read_bvh(path) if path.suffix == ".bvh" else read_deepmimic(path)
    poses, transl = retarget(clip)
    return _at_rate(Motion(poses, transl, path.stem, ""), 1 / clip.frame_s)


@lru_cache(maxsize=256)
def _cached(path: Path, size: int, changed_ns: int) -> Motion:
    return read_motion(path)


def load_motions(path: Path) -> list[Motion]:
    """All clips of a folder (``.npz``, ``.bvh``, ``.txt``) at 30 Hz, sorted by file name.

    Raises DataError for a missing or empty folder and for the first clip that cannot be used.
    """
    if not path.is_dir():
        raise DataError(path, "is no folder of motions", "git checkout data/motions, or name your own folder")
    files = sorted(
        p for p in path.iterdir() if p.suffix in (".npz", ".bvh", ".txt") and not p.name.startswith(".")
    )
    if not files:
        raise DataError(path, "holds no .npz, .bvh or .txt clip", "git checkout data/motions, or add clips")
    cached = [_cached(p, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return [replace(motion, poses=motion.poses.copy(), transl_m=motion.transl_m.copy()) for motion in cached]


def subject_blocks(takes: Sequence[Motion]) -> dict[int, list[Block]]:
    """Blocks of takes by subject: no two subjects share a frame, and one take's blocks lie 1 s apart.

    A take long enough is cut into one block for each subject and one for the bodies for evaluation, in
    an order that rotates from take to take; a shorter one goes whole to whoever has least. With two or
    more long takes for each of these eight all go whole, the longest first. What the bodies for evaluation have
    is divided among ``EVALUATION_SHARES`` of them, end to end.
    """
    subjects = (*TRAIN_SUBJECTS, *TEST_SUBJECTS, _FOR_EVALUATION)
    blocks: dict[int, list[Block]] = {subject: [] for subject in subjects}
    gap, parts = round(GAP_S * RATE_HZ), len(subjects)
    lengths = [(len(take) - gap * (parts - 1)) // parts for take in takes]
    long = [length >= _SHORTEST_BLOCK_S * RATE_HZ for length in lengths]
    if sum(long) >= _ENOUGH_TAKES_EACH * parts:
        long = [False] * len(takes)
        takes = sorted(takes, key=len, reverse=True)
    whole: dict[int, int] = dict.fromkeys(subjects, 0)
    for number, (take, length, shared) in enumerate(zip(takes, lengths, long, strict=True)):
        if shared:
            for k in range(parts):
                subject = subjects[(k + 2 * number) % parts]
                blocks[subject].append(_cut(take, k * (length + gap), k * (length + gap) + length, subject))
        else:
            subject = min(subjects, key=lambda s: (whole[s], s))
            whole[subject] += len(take)
            blocks[subject].append(_cut(take, 0, len(take), subject))
    common = blocks.pop(_FOR_EVALUATION)
    for k, subject in enumerate(EVALUATION_SUBJECTS[:EVALUATION_SHARES]):
        blocks[subject] = _share(common, k)
    return blocks


def split_of_motion(subject: int) -> str:
    """Split of a synthetic subject's motions, which params do not change: "train", "test", or "evaluation"."""
    if subject in TRAIN_SUBJECTS:
        return "train"
    return "test" if subject in TEST_SUBJECTS else "evaluation"


def _share(blocks: Sequence[Block], k: int) -> list[Block]:
    """Part ``k`` of ``EVALUATION_SHARES`` equal ones of blocks laid end to end, none under two frames."""
    total = sum(len(block.motion) for block in blocks)
    low, high = (total * edge // EVALUATION_SHARES for edge in (k, k + 1))
    shares, passed = [], 0
    for block in blocks:
        start, stop = max(low - passed, 0), min(high - passed, len(block.motion))
        passed += len(block.motion)
        if stop - start >= 2:
            motion = replace(
                block.motion,
                poses=block.motion.poses[start:stop],
                transl_m=block.motion.transl_m[start:stop],
                name=f"{block.take}[{block.start + start}:{block.start + stop}]",
            )
            shares.append(Block(motion, block.take, block.start + start, block.start + stop))
    return shares


def _cut(take: Motion, start: int, stop: int, subject: int) -> Block:
    split = split_of_motion(subject)
    name = f"{take.name}[{start}:{stop}]"
    return Block(
        Motion(take.poses[start:stop], take.transl_m[start:stop], name, split), take.name, start, stop
    )


def mirror(motion: Motion) -> Motion:
    """The motion seen in a mirror: left and right exchanged across the plane x = 0."""
    poses = motion.poses[:, list(SMPL_MIRROR)] * np.array([1.0, -1.0, -1.0])
    return replace(motion, poses=poses, transl_m=motion.transl_m * np.array([-1.0, 1.0, 1.0]))


def resample(motion: Motion, times: Array, rate_hz: float) -> Motion:
    """The motion, sampled at ``rate_hz``, at other ``times`` (seconds, within it): slerp and linear."""
    at = np.clip(times * rate_hz, 0, len(motion) - 1)
    low = np.minimum(at.astype(np.int64), len(motion) - 2)
    part = at - low
    poses = blend(motion.poses[low], motion.poses[low + 1], part[:, None])
    transl = motion.transl_m[low] + part[:, None] * (motion.transl_m[low + 1] - motion.transl_m[low])
    return replace(motion, poses=poses, transl_m=transl)


def stretch(motion: Motion, frames: int, *, start_s: float, tempo: float, rate_hz: float = RATE_HZ) -> Motion:
    """``frames`` of a motion from ``start_s`` on, ``tempo`` times as fast; it runs back from its end."""
    length = (len(motion) - 1) / rate_hz
    phase = (start_s + tempo * np.arange(frames) / rate_hz) % (2 * length)
    return resample(motion, np.where(phase > length, 2 * length - phase, phase), rate_hz)


def turned(motion: Motion, heading: float) -> Motion:
    """The motion, turned by ``heading`` radians about the room's vertical axis."""
    turn = Rotation.from_euler("Y", heading)
    poses = motion.poses.copy()
    poses[:, 0] = (turn * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    return replace(motion, poses=poses, transl_m=turn.apply(motion.transl_m))


def blend(first: Array, second: Array, weight: Array) -> Array:
    """Rotations (T,J,3) that lie ``weight`` (T,J or T,1; 0 to 1) of the way from ``first`` to ``second``."""
    shape = first.shape
    start = Rotation.from_rotvec(first.reshape(-1, 3))
    way = (start.inv() * Rotation.from_rotvec(second.reshape(-1, 3))).as_rotvec().reshape(shape)
    part = Rotation.from_rotvec((way * np.broadcast_to(weight, shape[:2])[..., None]).reshape(-1, 3))
    return np.asarray((start * part).as_rotvec().reshape(shape))


def crossfade(first: Array, second: Array, weight: Array) -> Array:
    """As ``blend`` for two motions (T,J,3), without jumps where they come to be half a turn apart.

    The way from one to the other then goes on round the same side instead of changing to the shorter.
    """
    shape = first.shape
    start = Rotation.from_rotvec(first.reshape(-1, 3))
    way = (start.inv() * Rotation.from_rotvec(second.reshape(-1, 3))).as_rotvec().reshape(shape)
    for t in range(1, len(way)):
        angle = np.linalg.norm(way[t], axis=-1, keepdims=True)
        other = way[t] * (1 - 2 * np.pi / np.maximum(angle, 1e-9))
        nearer = np.linalg.norm(other - way[t - 1], axis=-1) < np.linalg.norm(way[t] - way[t - 1], axis=-1)
        way[t] = np.where(nearer[:, None] & (angle > 1.0), other, way[t])
    part = Rotation.from_rotvec((way * np.broadcast_to(weight, shape[:2])[..., None]).reshape(-1, 3))
    return np.asarray((start * part).as_rotvec().reshape(shape))
