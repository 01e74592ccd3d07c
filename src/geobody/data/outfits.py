"""Skin, hair, faces and clothes as functions of the T-pose template, and who wears what.

A colour belongs to a point of the template (x to the body's left, y up, z forward, metres), so it
is crisp at any resolution and the same in all views, poses and shapes, and no UV map is needed.
The wardrobe is written out rather than drawn at random: what people wear decides how hard it is
to go from one person to the next (trials.md), and test subjects wear what no training subject wears.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from geobody.conventions import SMPL_JOINTS

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Anatomy:
    """Where things are on a template: all lengths in metres, in the template's frame."""

    shoulder_x: float
    wrist_x: float
    neck_y: float
    chin_y: float
    crown_y: float
    eye_y: float
    eye_x: float
    eye_z: float
    mouth_y: float
    ear_z: float
    back_of_head_z: float
    waist_y: float
    crotch_y: float
    ankle_y: float
    floor_y: float
    chest_y: float
    chest_z: float
    hip_x: float
    knee_x: float
    ankle_x: float

    @classmethod
    def of(cls, v_template: np.ndarray, J_regressor: np.ndarray, landmarks: np.ndarray) -> "Anatomy":
        """Measured on a body file's arrays; ``landmarks`` begin with nose, right and left eye and ear."""
        joints = dict(zip(SMPL_JOINTS, J_regressor @ v_template, strict=True))
        nose, _, left_eye, _, left_ear = v_template[landmarks[:5]]
        crown = float(v_template[:, 1].max())
        face = crown - float(left_eye[1])
        head = v_template[v_template[:, 1] > left_eye[1] - face]
        return cls(
            shoulder_x=float(joints["left_shoulder"][0]),
            wrist_x=float(joints["left_wrist"][0]),
            neck_y=float(joints["neck"][1]),
            chin_y=float(left_eye[1] - 0.92 * face),
            crown_y=crown,
            eye_y=float(left_eye[1]),
            eye_x=float(left_eye[0]),
            eye_z=float(left_eye[2]),
            mouth_y=float(nose[1] - 0.30 * face),
            ear_z=float(left_ear[2]),
            back_of_head_z=float(head[:, 2].min()),
            waist_y=float(joints["pelvis"][1] + 0.35 * (joints["spine1"][1] - joints["pelvis"][1])) + 0.03,
            crotch_y=float(joints["left_hip"][1]) - 0.06,
            ankle_y=float(joints["left_ankle"][1]),
            floor_y=float(v_template[:, 1].min()),
            chest_y=float(joints["spine3"][1]),
            chest_z=float(joints["spine3"][2]),
            hip_x=float(joints["left_hip"][0]),
            knee_x=float(joints["left_knee"][0]),
            ankle_x=float(joints["left_ankle"][0]),
        )


@dataclass(frozen=True)
class Person:
    """What a subject keeps whatever is worn: skin, hair (``bald``, ``short``, ``bob``, ``long``), a beard."""

    skin: RGB
    hair: RGB
    cut: str
    beard: bool = False


@dataclass(frozen=True)
class Outfit:
    """Clothes; lengths are shares of a limb: 0 at the shoulder or crotch, 1 at the wrist or ankle.

    ``pattern`` of the top: plain, stripes, pinstripes, checks, dots, logo, band, open (a jacket over
    a shirt in ``second``), raglan (sleeves in ``second``), split (lower half in ``second``).
    ``leg_pattern``: plain, side (a stripe down the side), checks, patch (knees in another shade).
    """

    top: RGB
    second: RGB
    pattern: str
    sleeve: float
    legs: RGB
    leg: float
    shoes: RGB
    leg_pattern: str = "plain"
    leg_second: RGB = (0.9, 0.9, 0.9)
    neckline: float = 0.04
    belt: RGB | None = None
    hem: float = 0.0
    """How far the top reaches below the waist, metres; negative leaves skin."""
    boots: float = 0.035
    """Height of the shoes above the ankle, metres."""
    hat: RGB | None = None
    loose_m: float = 0.006
    """How far the cloth stands off the skin."""


PEOPLE: Final[dict[int, Person]] = {
    1: Person((0.87, 0.68, 0.56), (0.23, 0.15, 0.09), "short"),
    5: Person((0.91, 0.74, 0.64), (0.72, 0.54, 0.28), "long"),
    6: Person((0.50, 0.34, 0.25), (0.08, 0.06, 0.05), "short", beard=True),
    7: Person((0.81, 0.61, 0.46), (0.11, 0.08, 0.07), "bob"),
    8: Person((0.89, 0.71, 0.60), (0.48, 0.44, 0.40), "bald", beard=True),
    9: Person((0.66, 0.47, 0.34), (0.14, 0.09, 0.06), "long"),
    11: Person((0.90, 0.72, 0.61), (0.55, 0.27, 0.12), "short", beard=True),
}

NAVY: Final = (0.13, 0.18, 0.34)
DENIM: Final = (0.24, 0.34, 0.52)
BLACK: Final = (0.10, 0.10, 0.12)
WHITE: Final = (0.92, 0.92, 0.90)
GREY: Final = (0.38, 0.39, 0.42)
RED: Final = (0.74, 0.16, 0.15)
BROWN: Final = (0.34, 0.21, 0.13)

WARDROBE: Final[dict[int, tuple[Outfit, ...]]] = {
    1: (
        Outfit((0.20, 0.38, 0.66), WHITE, "logo", 0.35, DENIM, 1.0, WHITE, belt=BROWN),
        Outfit(RED, BLACK, "checks", 1.0, BLACK, 1.0, BROWN),
    ),
    5: (
        Outfit((0.85, 0.45, 0.52), WHITE, "plain", 0.25, NAVY, 1.0, WHITE, neckline=0.07),
        Outfit(WHITE, NAVY, "stripes", 1.0, DENIM, 0.95, RED, hem=0.05),
        Outfit((0.44, 0.24, 0.50), (0.86, 0.80, 0.55), "dots", 0.0, BLACK, 0.55, BLACK,
               neckline=0.09, hem=0.10),
    ),
    6: (
        Outfit((0.88, 0.66, 0.16), BLACK, "logo", 0.4, GREY, 1.0, BLACK, leg_pattern="side"),
        Outfit(BLACK, (0.75, 0.76, 0.78), "open", 1.0, DENIM, 1.0, BROWN, hem=0.04, loose_m=0.010),
        Outfit((0.16, 0.42, 0.36), WHITE, "raglan", 0.7, BLACK, 0.45, WHITE),
    ),
    7: (
        Outfit((0.18, 0.50, 0.55), WHITE, "pinstripes", 1.0, BLACK, 1.0, BLACK),
        Outfit((0.80, 0.34, 0.14), WHITE, "band", 0.3, DENIM, 0.42, WHITE, leg_second=WHITE),
        Outfit(NAVY, RED, "split", 0.6, (0.56, 0.16, 0.20), 1.0, BROWN, hem=0.03),
    ),
    8: (
        Outfit(GREY, WHITE, "open", 1.0, NAVY, 1.0, BROWN, hem=0.03, loose_m=0.009),
        Outfit((0.30, 0.55, 0.26), (0.12, 0.26, 0.12), "checks", 0.45, BROWN, 1.0, BLACK, belt=BLACK),
        Outfit((0.16, 0.24, 0.60), WHITE, "stripes", 0.3, WHITE, 0.48, (0.2, 0.3, 0.6),
               hat=(0.16, 0.24, 0.6)),
    ),
    9: (
        Outfit((0.60, 0.18, 0.38), (0.90, 0.78, 0.30), "band", 0.55, (0.22, 0.30, 0.18), 1.0,
               (0.86, 0.64, 0.22), hem=0.05),
        Outfit((0.16, 0.34, 0.24), (0.90, 0.88, 0.80), "dots", 0.3, (0.30, 0.24, 0.44), 0.75,
               (0.46, 0.22, 0.46), neckline=0.07),
    ),
    11: (
        Outfit((0.13, 0.46, 0.72), (0.94, 0.62, 0.20), "raglan", 1.0, (0.52, 0.42, 0.28), 1.0,
               (0.18, 0.44, 0.42)),
        Outfit((0.90, 0.48, 0.20), NAVY, "checks", 0.4, (0.18, 0.30, 0.34), 0.52, (0.60, 0.46, 0.30),
               leg_pattern="side", leg_second=(0.94, 0.62, 0.20)),
    ),
}  # fmt: skip


def outfit_of(subject: int, action: int) -> Outfit:
    """What a subject wears in an action: the wardrobe in turns, so that neighbours differ."""
    clothes = WARDROBE[subject]
    return clothes[(action + subject) % len(clothes)]


class Dress:
    """Colours and thickness of one dressed person on one template."""

    def __init__(self, person: Person, outfit: Outfit, anatomy: Anatomy) -> None:
        self.person, self.outfit, self.anatomy = person, outfit, anatomy

    def offsets_m(self, template: np.ndarray) -> np.ndarray:
        """How far (V,) hair, cloth and soles stand off the skin at template points (V,3)."""
        a, o = self.anatomy, self.outfit
        region = self._regions(template)
        offset = np.zeros(len(template))
        offset[region["top"]] = o.loose_m
        offset[region["legs"]] = 0.8 * o.loose_m
        offset[region["shoes"]] = 0.008
        thick = {"bald": 0.0, "short": 0.012, "bob": 0.020, "long": 0.022}[self.person.cut]
        if o.hat is not None:
            thick = 0.016
        offset[region["hair"] & (template[:, 1] > a.chin_y)] = thick
        return offset

    def albedo(self, points: np.ndarray) -> np.ndarray:
        """Colours (N,3) in [0,1] of template points (N,3)."""
        a, o, p = self.anatomy, self.outfit, self.person
        region = self._regions(points)
        x, y, z = points.T
        colours = np.empty((len(points), 3))
        colours[:] = p.skin
        self._face(points, region["head"], colours)
        legs, top, shoes, hair = region["legs"], region["top"], region["shoes"], region["hair"]
        colours[legs] = self._legs(points[legs])
        colours[top] = self._top(points[top])
        sole = shoes & (y < a.floor_y + 0.018)
        colours[shoes] = o.shoes
        laces = shoes & (np.abs(np.abs(x) - a.ankle_x) < 0.022) & (z > 0.03) & (np.sin(y * 500) > 0)
        colours[laces] = np.array(o.shoes) * 0.6 + 0.25
        colours[sole] = (0.16, 0.15, 0.15) if sum(o.shoes) > 1 else (0.75, 0.74, 0.72)
        strands = 1 + 0.16 * np.sin(240 * x[hair] + 30 * y[hair]) * np.sin(95 * z[hair] + 20 * y[hair])
        colours[hair] = np.array(p.hair) * strands[:, None]
        if o.hat is not None:
            hat = region["head"] & (y > a.eye_y + 0.35 * (a.crown_y - a.eye_y))
            colours[hat] = o.hat
        # Folds and weave: cloth is never evenly lit.
        cloth = top | legs
        folds = np.sin(38 * y[cloth] + 21 * x[cloth] + 4 * np.sin(17 * z[cloth] + 9 * x[cloth]))
        colours[cloth] *= (1 + 0.05 * folds)[:, None]
        return colours

    def _regions(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Masks (N,) of head, hair, top, legs, shoes; the rest is skin."""
        a, o = self.anatomy, self.outfit
        x, y, z = points.T
        side = np.abs(x)
        along_arm = (side - a.shoulder_x) / (a.wrist_x - a.shoulder_x)
        along_leg = (a.crotch_y - y) / (a.crotch_y - a.ankle_y)
        head = (y > a.chin_y) & (side < 0.6 * a.shoulder_x + 0.03)
        waist = a.waist_y - o.hem
        # The neckline dips in front.
        front = np.clip((z - a.chest_z + 0.05) / 0.1, 0, 1)
        collar = a.neck_y + 0.03 - o.neckline * front * np.exp(-((x / 0.075) ** 2))
        arm = along_arm > 0.0
        sleeve = along_arm < max(o.sleeve, 0.02 if o.sleeve > 0 else -0.06)
        torso = (y > waist) & (y < collar) & ~(arm & (along_arm > 0.02))
        top = (torso | (arm & (y > a.waist_y))) & sleeve & ~head
        legs = (y <= waist) & (along_leg < o.leg) & (side < a.shoulder_x + 0.12)
        shoes = y < a.ankle_y + o.boots
        legs &= ~shoes | (o.leg >= 1.0) & (y > a.ankle_y + 0.02)
        shoes &= ~legs
        return {"head": head, "hair": self._hair(points, head), "top": top, "legs": legs, "shoes": shoes}

    def _hair(self, points: np.ndarray, head: np.ndarray) -> np.ndarray:
        a, cut = self.anatomy, self.person.cut
        x, y, z = points.T
        face = a.crown_y - a.eye_y
        # 0 at the forehead, 1 at the ear, 2 at the back of the head.
        back = np.where(
            z > a.ear_z,
            (a.eye_z + 0.02 - z) / max(a.eye_z + 0.02 - a.ear_z, 1e-3),
            1 + (a.ear_z - z) / max(a.ear_z - a.back_of_head_z, 1e-3),
        )
        front_line = 0.52 * face + 0.04 * face * np.cos(40 * x)
        if cut == "bald":
            return head & (back > 1.15) & (y < a.eye_y + 0.35 * face) & (y > a.eye_y - 0.35 * face)
        nape = {"short": -0.45, "bob": -0.95, "long": -1.6}[cut] * face
        ear = {"short": 0.0, "bob": -0.85, "long": -1.2}[cut] * face
        line = np.interp(back, [0.0, 0.45, 0.75, 1.0, 1.35, 2.0],
                         [front_line.mean(), front_line.mean(), 0.3 * face, ear, nape, nape])  # fmt: skip
        line = np.where(back < 0.3, front_line, line)
        hair = head & (y - a.eye_y > line)
        if cut == "long":
            falls = (z < a.chest_z - 0.01) & (np.abs(x) < 0.11) & (y > a.chest_y - 0.02)
            hair |= falls & (y <= a.chin_y + 0.1) & (np.abs(x) < 0.085 + 0.02 * np.sin(60 * x))
        return hair

    def _face(self, points: np.ndarray, head: np.ndarray, colours: np.ndarray) -> None:
        a, p = self.anatomy, self.person
        index = np.flatnonzero(head & (points[:, 2] > a.ear_z + 0.01))
        x, y, _ = points[index].T
        side = np.abs(x) - a.eye_x
        face = a.crown_y - a.eye_y
        skin = np.array(p.skin)
        cheeks = np.hypot(side, y - a.eye_y + 0.42 * face) < 0.22 * face
        colours[index[cheeks]] = skin * np.array([1.02, 0.93, 0.92])
        if p.beard:
            jaw = (y < a.mouth_y + 0.16 * face) & (y > a.chin_y - 0.02)
            colours[index[jaw]] = 0.35 * skin + 0.65 * np.array(p.hair)
        white = np.hypot(side / 1.45, y - a.eye_y) < 0.105 * face
        colours[index[white]] = (0.90, 0.89, 0.88)
        iris = np.hypot(side, y - a.eye_y) < 0.095 * face
        colours[index[iris]] = (0.12, 0.09, 0.08)
        brow = (np.abs(y - a.eye_y - 0.25 * face) < 0.05 * face) & (np.abs(side) < 0.2 * face)
        colours[index[brow]] = 0.2 * skin + 0.6 * np.array(p.hair)
        mouth = (np.abs(y - a.mouth_y + 0.06 * face) < 0.06 * face) & (np.abs(x) < 0.27 * face)
        colours[index[mouth]] = 0.5 * skin + np.array([0.22, 0.02, 0.03])

    def _top(self, points: np.ndarray) -> np.ndarray:
        a, o = self.anatomy, self.outfit
        x, y, z = points.T
        colours = np.empty((len(points), 3))
        colours[:] = o.top
        along_arm = (np.abs(x) - a.shoulder_x) / (a.wrist_x - a.shoulder_x)
        on_arm = along_arm > 0.02
        # Patterns run round the trunk and round the sleeves.
        run = np.where(on_arm, np.abs(x), y)
        if o.pattern == "stripes":
            mark = (run / 0.075) % 1 < 0.45
        elif o.pattern == "pinstripes":
            mark = (np.where(on_arm, z, x) / 0.035) % 1 < 0.28
        elif o.pattern == "checks":
            mark = ((run / 0.10) % 1 < 0.5) ^ ((np.where(on_arm, z, x) / 0.10 + 0.25) % 1 < 0.5)
        elif o.pattern == "dots":
            across = np.where(on_arm, z, x)
            mark = np.hypot((across / 0.06) % 1 - 0.5, (run / 0.06) % 1 - 0.5) < 0.27
        elif o.pattern == "logo":
            mark = (z > a.chest_z) & (np.hypot(x, (y - a.chest_y) * 1.2) < 0.075)
            mark &= ~((z > a.chest_z) & (np.abs(y - a.chest_y) < 0.014))
        elif o.pattern == "band":
            mark = np.abs(y - a.chest_y + 0.03) < 0.07
            mark &= ~on_arm
        elif o.pattern == "open":
            mark = (z > a.chest_z) & (np.abs(x) < 0.03 + 0.16 * np.clip(y - a.chest_y + 0.1, 0, 0.3))
        elif o.pattern == "raglan":
            mark = on_arm | (np.abs(x) > a.shoulder_x - 0.5 * (y - a.chest_y))
        elif o.pattern == "split":
            mark = (y < a.chest_y - 0.07) & ~on_arm
        else:
            mark = np.zeros(len(points), bool)
        colours[mark] = o.second
        if o.pattern == "open":
            buttons = mark & (np.abs(x) < 0.006)
            colours[buttons] *= 0.75
        cuff = (along_arm > o.sleeve - 0.04) & on_arm
        colours[cuff] *= 0.86
        hem = y < a.waist_y - o.hem + 0.015
        colours[hem & ~on_arm] *= 0.86
        return colours

    def _legs(self, points: np.ndarray) -> np.ndarray:
        a, o = self.anatomy, self.outfit
        x, y, z = points.T
        colours = np.empty((len(points), 3))
        colours[:] = o.legs
        along = (a.crotch_y - y) / (a.crotch_y - a.ankle_y)
        if o.leg_pattern == "side":
            colours[np.abs(x) > self._outer_leg_x(along)] = o.leg_second
        elif o.leg_pattern == "checks":
            mark = ((x / 0.07) % 1 < 0.5) ^ ((y / 0.07) % 1 < 0.5)
            colours[mark] = o.leg_second
        elif o.leg_pattern == "patch":
            colours[(np.abs(along - 0.5) < 0.1) & (z > 0)] *= 0.7
        fly = (np.abs(x) < 0.006) & (z > a.chest_z) & (y > a.crotch_y)
        colours[fly] *= 0.7
        pocket = (
            (np.abs(np.abs(x) - 0.8 * a.hip_x) < 0.04)
            & (z < a.chest_z - 0.02)
            & (np.abs(y - a.crotch_y - 0.05) < 0.04)
        )
        colours[pocket] *= 0.88
        if o.belt is not None:
            colours[y > a.waist_y - o.hem - 0.035] = o.belt
        hem = along > o.leg - 0.03
        colours[hem] *= 0.85
        return colours

    def _outer_leg_x(self, along: np.ndarray) -> np.ndarray:
        """|x| beyond which a point of the leg lies on its outer side: where a seam would be."""
        a = self.anatomy
        beyond = np.interp(along, [-0.2, 0.0, 0.5, 1.0], [0.055, 0.058, 0.036, 0.022])
        return np.interp(along, [0.0, 0.45, 1.0], [a.hip_x, a.knee_x, a.ankle_x]) + beyond
