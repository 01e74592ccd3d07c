"""Bodies for evaluation alone: who they are, what they wear, what they do, and where they stand.

The shapes of two test subjects say little of the error of shapes, so that further bodies take a few
poses each. They are people of their own: shape, skin, hair and clothes are drawn, not chosen, and no
training subject wears the like. Poses of one body are of different actions, a frame of each.
"""

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from geobody.conventions import EVALUATION_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.outfits import RGB, WARDROBE, Outfit, Person
from geobody.data.rooms import CAMERA_AZIMUTHS_DEG, WALL_COLOURS

SKINS: Final[tuple[RGB, ...]] = (
    (0.93, 0.77, 0.68), (0.88, 0.69, 0.57), (0.80, 0.60, 0.45), (0.68, 0.49, 0.35), (0.52, 0.36, 0.26),
    (0.40, 0.27, 0.20),
)  # fmt: skip
HAIRS: Final[tuple[RGB, ...]] = (
    (0.08, 0.06, 0.05), (0.20, 0.13, 0.08), (0.36, 0.22, 0.12), (0.56, 0.30, 0.14), (0.74, 0.56, 0.30),
    (0.55, 0.53, 0.51),
)  # fmt: skip
CUTS: Final = ("short", "short", "bob", "long", "bald")
PATTERNS: Final = (
    "plain",
    "stripes",
    "pinstripes",
    "checks",
    "dots",
    "logo",
    "band",
    "open",
    "raglan",
    "split",
)
APART: Final = 0.12
"""Distance in RGB of clothes from what any training subject wears at the same place."""
LONGEST_WAIT_S: Final = 6.0
SPREAD_M: Final = 1.1
"""Half the side of the square on which the places lie."""
BODIES_A_DAY: Final = 10


@dataclass(frozen=True)
class Scene:
    """What one (subject, action, subaction) is to show: ``frames`` instants from ``start_s`` on.

    ``place_m``: where the person stands, x and y in the world; None draws a place.
    """

    subject: int
    action: int
    subaction: int
    frames: int
    start_s: float = 0.0
    place_m: tuple[float, float] | None = None


def evaluation_scenes(*, bodies: int, poses: int, actions: tuple[int, ...], seed: int) -> list[Scene]:
    """``poses`` scenes of one frame, in turn over ``bodies`` and ``actions``; sorted by body.

    The places of one body differ in each camera's picture, so that the median over its images is the
    empty room.
    """
    scenes = []
    first = 0
    for number, subject in enumerate(EVALUATION_SUBJECTS[:bodies]):
        own = poses // bodies + (number < poses % bodies)
        rng = np.random.default_rng([seed, 7307, subject])
        for k, place in enumerate(_places(rng, own)):
            action = actions[(first + k) % len(actions)]
            subaction = 1 + k // len(actions)
            scenes.append(Scene(subject, action, subaction, 1, rng.uniform(0, LONGEST_WAIT_S), place))
        first += own
    return scenes


def _places(rng: np.random.Generator, count: int) -> Iterator[tuple[float, float]]:
    """Places (x, y) no two of which share a column of either axis of the cameras: rooks that never meet."""
    angle = np.deg2rad(CAMERA_AZIMUTHS_DEG[0])
    across = rng.permutation(count)
    for column in range(count):
        cell = (np.array([column, across[column]]) + rng.uniform(0.3, 0.7, 2)) / count
        u, v = SPREAD_M * (2 * cell - 1)
        yield float(u * np.cos(angle) - v * np.sin(angle)), float(u * np.sin(angle) + v * np.cos(angle))


def studio_of(subject: int) -> int:
    """The subject on whose day a subject was filmed: who shares a day shares room, light and cameras."""
    if subject not in EVALUATION_SUBJECTS:
        return subject
    first = EVALUATION_SUBJECTS[0]
    return first + (subject - first) // BODIES_A_DAY * BODIES_A_DAY


def drawn_person(subject: int, seed: int) -> Person:
    """Skin, hair and beard of a body for evaluation."""
    rng = np.random.default_rng([seed, 7308, subject])
    tone = int(rng.integers(len(SKINS)))
    # Fair hair goes with fair skin.
    hair = HAIRS[int(rng.integers(len(HAIRS) if tone < 3 else 3))]
    cut = CUTS[int(rng.integers(len(CUTS)))]
    return Person(SKINS[tone], hair, cut, beard=bool(rng.random() < 0.4) and cut in ("short", "bald"))


def drawn_outfit(subject: int, seed: int) -> Outfit:
    """The one outfit of a body for evaluation, unlike any that a training subject wears."""
    rng = np.random.default_rng([seed, 7309, subject])
    worn = [outfit for trained in TRAIN_SUBJECTS for outfit in WARDROBE[trained]]
    while True:
        outfit = Outfit(
            top=_colour(rng, (0.2, 0.75), (0.2, 0.85)),
            second=_colour(rng, (0.0, 0.5), (0.1, 0.95)),
            pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
            sleeve=float(rng.choice([0.0, 0.3, 0.45, 0.7, 1.0])),
            legs=_colour(rng, (0.05, 0.5), (0.1, 0.5)),
            leg=float(rng.choice([0.45, 0.75, 1.0, 1.0])),
            shoes=_colour(rng, (0.0, 0.4), (0.1, 0.9)),
            leg_pattern=str(rng.choice(["plain", "plain", "side", "patch"])),
            leg_second=_colour(rng, (0.0, 0.4), (0.3, 0.95)),
            neckline=float(rng.uniform(0.03, 0.09)),
            hem=float(rng.uniform(0.0, 0.06)),
            loose_m=float(rng.uniform(0.004, 0.010)),
        )
        contrast = [_nearest(WALL_COLOURS, colour) for colour in (outfit.top, outfit.legs)]
        new = [
            _nearest([o.top for o in worn], outfit.top) > APART,
            _nearest([o.legs for o in worn], outfit.legs) > APART,
            _nearest([o.shoes for o in worn], outfit.shoes) > APART,
        ]
        # Nobody wears camouflage: the rule that the wardrobe is tested by.
        if max(contrast) > 0.45 and min(contrast) > 0.18 and all(new):
            return outfit


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> RGB:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))


def _nearest(colours: tuple[RGB, ...] | list[RGB], colour: RGB) -> float:
    return float(np.linalg.norm(np.array(colours) - np.array(colour), axis=1).min())
