"""The 21 vertices that smplx appends to the joints: nose, eyes, ears, toes, heels and finger tips."""

from typing import Final

import numpy as np

from geobody.body.model import LANDMARKS
from geobody.conventions import SMPL_JOINTS

_FINGERS: Final = {
    "thumb": (0.75, 0.66), "index": (1.0, 0.45), "middle": (1.0, 0.1), "ring": (1.0, -0.3), "pinky": (0.85, -0.7)
}  # fmt: skip
"""Where a finger's tip is sought: out along the hand (1: at its end) and across it (1: its front edge)."""


def find_landmarks(template: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Vertex ids (21,), in ``LANDMARKS``' order, on a template (V, 3) in the T-pose with joints (24, 3)."""
    rig = dict(zip(SMPL_JOINTS, joints, strict=True))
    x, y, z = template.T

    def nearest(point: np.ndarray) -> int:
        return int(np.linalg.norm(template - point, axis=1).argmin())

    face = np.flatnonzero((y > rig["head"][1]) & (np.abs(x) < 0.02))
    nose = template[face[z[face].argmax()]] * (0, 1, 1)
    head = np.flatnonzero(y > rig["head"][1])
    places: dict[str, np.ndarray] = {"nose": nose, "leye": nose + np.array([0.032, 0.035, -0.02])}
    level = head[np.abs(y[head] - nose[1] - 0.015) < 0.03]
    places["lear"] = template[level[x[level].argmax()]]
    foot = np.flatnonzero((x > 0) & (y < rig["left_ankle"][1]))
    front, back = foot[z[foot].argmax()], foot[z[foot].argmin()]
    places["LBigToe"], places["LHeel"] = template[front], template[back]
    places["LSmallToe"] = np.array([x[foot].max(), y[foot].min(), template[front, 2] - 0.06])
    hand = np.flatnonzero(x > rig["left_wrist"][0])
    length = x[hand].max() - rig["left_wrist"][0]
    middle, half = rig["left_hand"][2], np.ptp(z[hand]) / 2
    for finger, (out, across) in _FINGERS.items():
        spot = np.array([rig["left_wrist"][0] + out * length, rig["left_hand"][1], middle + across * half])
        places[f"l{finger}"] = spot
    for name in list(places):
        if name != "nose":
            other = f"r{name[1:]}" if name.islower() else f"R{name[1:]}"
            places[other] = places[name] * (-1, 1, 1)
    return np.array([nearest(places[name]) for name in LANDMARKS])
