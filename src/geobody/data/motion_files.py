"""Clips of motion capture (BVH, DeepMimic) as 24-joint SMPL axis-angle.

Retargeting copies *rotations*: each joint of the source turns from its own rest pose, and a constant
rotation per limb takes SMPL's T-pose to the source's rest pose, so that every limb points where the
source's limb points, whatever the lengths. The torso needs none: both rest poses stand upright.
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from geobody.conventions import SMPL_PARENTS
from geobody.data.kinematics import FIGURE_OFFSETS_M, JOINT, least_rotation
from geobody.errors import DataError

Array = NDArray[np.float64]

RATE_HZ: Final = 30.0
_LEG_M: Final = 0.815

_ROLES: Final[dict[str, tuple[str, ...]]] = {
    "hip": ("upleg", "thigh", "hip", "upperleg"),
    "knee": ("leg", "knee", "shin", "lowleg", "lowerleg"),
    "ankle": ("foot", "ankle"),
    "foot": ("toebase", "toes", "toe"),
    "shoulder": ("arm", "uparm", "upperarm", "shldr", "shoulder"),
    "elbow": ("forearm", "elbow", "lowarm", "lowerarm"),
    "wrist": ("hand", "wrist"),
    "collar": ("collar", "clavicle", "shoulder"),
}
_OPTIONAL: Final = ("foot", "wrist", "collar")
_NEXT: Final = {"hip": "knee", "knee": "ankle", "shoulder": "elbow", "elbow": "wrist"}


@dataclass(frozen=True)
class Clip:
    """A clip on its own skeleton, turned into SMPL's axes (y up, rest pose facing +z, x to the left).

    ``offsets`` (J,3) in the source's unit; ``rotations`` (T,J,3,3) local; ``root`` (T,3) in the
    source's unit; ``roles``: joint number by SMPL joint name; ``spine``, ``neck``: chains of joint
    numbers from above the root to the chest, and from there to the head.
    """

    path: Path
    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Array
    rotations: Array
    root: Array
    frame_s: float
    roles: dict[str, int] = field(default_factory=dict)
    spine: tuple[int, ...] = ()
    neck: tuple[int, ...] = ()

    def forward(self) -> tuple[Array, Array]:
        """Joint positions (T,J,3) relative to the root, in the source's unit, and global rotations."""
        frames = len(self.rotations)
        positions, turned = np.zeros((frames, len(self.names), 3)), self.rotations.copy()
        for joint, parent in enumerate(self.parents):
            if parent >= 0:
                turned[:, joint] = turned[:, parent] @ self.rotations[:, joint]
                positions[:, joint] = positions[:, parent] + turned[:, parent] @ self.offsets[joint]
        return positions, turned


def _ancestors(parents: tuple[int, ...], joint: int) -> list[int]:
    chain = [joint]
    while parents[chain[-1]] >= 0:
        chain.append(parents[chain[-1]])
    return chain[::-1]


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name.split(":")[-1]).lower()


def _find_roles(
    path: Path, names: tuple[str, ...], parents: tuple[int, ...]
) -> tuple[dict[str, int], tuple[int, ...], tuple[int, ...]]:
    """Roles, spine and neck of a skeleton from its joints' names and its tree."""
    plain = {_plain(name): i for i, name in reversed(list(enumerate(names)))}
    roles: dict[str, int] = {"pelvis": parents.index(-1)}
    for side, prefixes in (("left", ("left", "l")), ("right", ("right", "r"))):
        for role, words in _ROLES.items():
            hits = [plain[p + word] for word in words for p in prefixes if p + word in plain]
            hits = [hit for hit in hits if hit not in roles.values()]
            if hits:
                roles[f"{side}_{role}"] = hits[0]
            elif role not in _OPTIONAL:
                words_said = ", ".join(f"{prefixes[0]}{word}" for word in words)
                raise DataError(
                    path,
                    f"no joint for SMPL's {side}_{role}",
                    f"name one of its joints as one of: {words_said}",
                )
    heads = [plain[word] for word in ("head", "neck") if word in plain]
    if not heads:
        raise DataError(path, "no joint for SMPL's head", "name one of its joints head")
    head = _ancestors(parents, heads[0])
    left, right = (_ancestors(parents, roles[f"{side}_shoulder"]) for side in ("left", "right"))
    trunk = [a for a, b, c in zip(head, left, right, strict=False) if a == b == c]
    return roles, tuple(trunk[1:]), tuple(head[len(trunk) :])


def _bvh_skeleton(
    path: Path, lines: list[str]
) -> tuple[list[str], list[int], list[list[float]], list[list[str]]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[list[str]] = []
    stack: list[int] = []
    for line in lines:
        words = line.split()
        if not words or words[0] in ("HIERARCHY", "{"):
            continue
        if words[0] in ("ROOT", "JOINT", "End"):
            parents.append(stack[-1] if stack else -1)
            names.append(words[1] if words[0] != "End" else "end of " + names[stack[-1]])
            stack.append(len(names) - 1)
            offsets.append([0.0, 0.0, 0.0])
            channels.append([])
        elif words[0] == "OFFSET":
            offsets[stack[-1]] = [float(word) for word in words[1:4]]
        elif words[0] == "CHANNELS":
            channels[stack[-1]] = words[2:]
        elif words[0] == "}":
            stack.pop()
        else:
            raise DataError(
                path, f"a line of its hierarchy begins with {words[0]!r}", "export it again as BVH"
            )
    if not names or stack or parents.count(-1) != 1:
        raise DataError(path, "its hierarchy is not one closed tree", "export it again as BVH")
    return names, parents, offsets, channels


def read_bvh(path: Path) -> Clip:
    """The clip of a BVH file, turned into SMPL's axes. Raises DataError for a broken or unsuited file."""
    try:
        head, _, tail = path.read_text(encoding="utf-8", errors="replace").partition("MOTION")
        names, parents, offsets, channels = _bvh_skeleton(path, head.splitlines())
        body = tail.strip().splitlines()
        count, frame_s = int(body[0].split(":")[1]), float(body[1].split(":")[1])
        rows = [np.array(line.split(), dtype=np.float64) for line in body[2:] if line.strip()]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(path, f"cannot be read as BVH ({error})", "export it again, or remove it") from None
    width = sum(len(c) for c in channels)
    rows = rows[:count]  # some exporters write a frame more than they announce
    if len(rows) < count or count < 2:
        raise DataError(
            path, f"says {count} frames and holds {len(rows)}", "export it again: it looks cut off"
        )
    wrong = [i for i, row in enumerate(rows) if len(row) != width or not np.isfinite(row).all()]
    if wrong:
        raise DataError(path, f"frame {wrong[0] + 1} does not hold {width} finite numbers", "export it again")
    if not 1e-4 < frame_s < 0.5:
        raise DataError(
            path, f"frame time {frame_s} s is outside 0.0001 to 0.5 s", "set a real, even frame time"
        )
    values, rotations = np.stack(rows), np.tile(np.eye(3), (count, len(names), 1, 1))
    root, column = np.zeros((count, 3)), 0
    for joint, own in enumerate(channels):
        block = values[:, column : column + len(own)]
        column += len(own)
        turns = [i for i, name in enumerate(own) if name.endswith("rotation")]
        if turns:
            axes = "".join(own[i][0] for i in turns)
            rotations[:, joint] = Rotation.from_euler(axes, block[:, turns], degrees=True).as_matrix()
        for i, name in enumerate(own):
            if name.endswith("position") and parents[joint] < 0:
                root[:, "XYZ".index(name[0])] = block[:, i]
    roles, spine, neck = _find_roles(path, tuple(names), tuple(parents))
    clip = Clip(
        path, tuple(names), tuple(parents), np.array(offsets), rotations, root, frame_s, roles, spine, neck
    )
    return _without_calibration(_turned(clip, _rest_axes(clip)))


def _rest_axes(clip: Clip) -> Array:
    """Rotation from the source's axes to SMPL's, each axis to an axis, read off its rest pose."""
    rest = np.zeros_like(clip.offsets)
    for joint, parent in enumerate(clip.parents):
        rest[joint] = clip.offsets[joint] + (rest[parent] if parent >= 0 else 0)
    left = rest[clip.roles["left_hip"]] - rest[clip.roles["right_hip"]]
    ankles = rest[[clip.roles["left_ankle"], clip.roles["right_ankle"]]].mean(axis=0)
    hips = rest[[clip.roles["left_hip"], clip.roles["right_hip"]]].mean(axis=0)
    up = hips - ankles
    axes = np.zeros((3, 3))
    for row, direction in ((0, left), (1, up)):
        main = int(np.argmax(np.abs(direction)))
        axes[row, main] = np.sign(direction[main])
    axes[2] = np.cross(axes[0], axes[1])
    if abs(np.linalg.det(axes) - 1) > 1e-6:
        raise DataError(
            clip.path, "its rest pose does not stand upright", "export it with a T-pose as rest pose"
        )
    return axes


def _turned(clip: Clip, axes: Array) -> Clip:
    rotations = axes @ clip.rotations @ axes.T
    return replace(clip, offsets=clip.offsets @ axes.T, rotations=rotations, root=clip.root @ axes.T)


def _without_calibration(clip: Clip) -> Clip:
    """The clip without a first frame (often a T-pose) that no body could leave within one frame."""
    way = np.swapaxes(clip.rotations[0], -1, -2) @ clip.rotations[1]
    jump = np.sqrt(np.mean(Rotation.from_matrix(way).magnitude() ** 2))
    if len(clip.rotations) < 3 or jump < np.deg2rad(15):
        return clip
    return replace(clip, rotations=clip.rotations[1:], root=clip.root[1:])


_MIMIC_JOINTS: Final = (
    # name, parent, position relative to the parent in the humanoid's axes (x front, y up, z right), values
    ("pelvis", -1, (0.0, 0.0, 0.0), 4), ("chest", 0, (0.0, 0.236151, 0.0), 4),
    ("neck", 1, (0.0, 0.223894, 0.0), 4),
    ("right_hip", 0, (0.0, 0.0, 0.084887), 4), ("right_knee", 3, (0.0, -0.421546, 0.0), 1),
    ("right_ankle", 4, (0.0, -0.40987, 0.0), 4),
    ("right_shoulder", 1, (-0.02405, 0.2435, 0.18311), 4), ("right_elbow", 6, (0.0, -0.274788, 0.0), 1),
    ("left_hip", 0, (0.0, 0.0, -0.084887), 4), ("left_knee", 8, (0.0, -0.421546, 0.0), 1),
    ("left_ankle", 9, (0.0, -0.40987, 0.0), 4),
    ("left_shoulder", 1, (-0.02405, 0.2435, -0.18311), 4), ("left_elbow", 11, (0.0, -0.274788, 0.0), 1),
    ("right_wrist", 7, (0.0, -0.258947, 0.0), 0), ("left_wrist", 12, (0.0, -0.258947, 0.0), 0),
)  # fmt: skip
"""DeepMimic's humanoid: arms hang in its rest pose, knees and elbows are hinges about z."""


def read_deepmimic(path: Path) -> Clip:
    """The clip of a DeepMimic ``.txt`` file (JSON, 44 numbers a frame), turned into SMPL's axes."""
    try:
        values = np.array(json.loads(path.read_text(encoding="utf-8"))["Frames"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            path, f"cannot be read as a DeepMimic clip ({error})", "mend it, or remove it"
        ) from None
    if values.ndim != 2 or values.shape[1] != 44 or len(values) < 2:
        shape = "x".join(str(n) for n in values.shape)
        raise DataError(
            path,
            f"holds {shape} numbers, not 44 for each of 2 or more frames",
            "it is no humanoid's clip: remove it",
        )
    if not np.isfinite(values).all():
        raise DataError(path, "holds numbers that are not finite", "mend it, or remove it")
    steps = values[:-1, 0]
    frame_s = float(np.median(steps))
    if not 1e-4 < frame_s < 0.5 or np.abs(steps - frame_s).max() > 0.05 * frame_s:
        raise DataError(
            path,
            f"frame times run from {steps.min():g} to {steps.max():g} s",
            "resample it to an even frame time",
        )
    rotations, column = np.tile(np.eye(3), (len(values), len(_MIMIC_JOINTS), 1, 1)), 4
    for joint, (name, _, _, size) in enumerate(_MIMIC_JOINTS):
        block = values[:, column : column + size]
        column += size
        if size == 4:
            if np.linalg.norm(block, axis=1).min() < 0.5:
                raise DataError(path, f"the quaternion of {name} vanishes", "mend it, or remove it")
            rotations[:, joint] = Rotation.from_quat(block[:, [1, 2, 3, 0]]).as_matrix()
        elif size == 1:
            rotations[:, joint] = Rotation.from_euler("Z", block).as_matrix()
    names = tuple(name for name, *_ in _MIMIC_JOINTS)
    roles = {name: i for i, name in enumerate(names) if name in JOINT and name != "neck"}
    parents = tuple(parent for _, parent, *_ in _MIMIC_JOINTS)
    offsets = np.array([offset for _, _, offset, _ in _MIMIC_JOINTS])
    clip = Clip(path, names, parents, offsets, rotations, values[:, 1:4], frame_s, roles, (1,), (2,))
    return _turned(clip, np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))


def _along(chain: list[Array], fraction: float) -> Array:
    """Rotation (T,3,3) at a fraction of a chain of global rotations, the first of them its start."""
    at = fraction * (len(chain) - 1)
    low = min(int(at), len(chain) - 2)
    way = Rotation.from_matrix(np.swapaxes(chain[low], 1, 2) @ chain[low + 1]).as_rotvec()
    return np.asarray(chain[low] @ Rotation.from_rotvec(way * (at - low)).as_matrix())


def retarget(clip: Clip) -> tuple[Array, Array]:
    """SMPL poses (T,24,3) axis-angle and root positions (T,3) metres of a clip, at the clip's own rate.

    Lengths become metres by setting the source's leg to an average adult's.
    """
    _, turned = clip.forward()
    figure = np.asarray(FIGURE_OFFSETS_M)
    spine = [turned[:, clip.roles["pelvis"]], *(turned[:, j] for j in clip.spine)]
    if len(spine) == 1:
        spine.append(spine[0])
    neck = [spine[-1], *(turned[:, j] for j in clip.neck)]
    known: dict[str, Array] = {"pelvis": spine[0]}
    for k, name in enumerate(("spine1", "spine2", "spine3"), start=1):
        known[name] = _along(spine, k / 3)
    known["neck"], known["head"] = _along(neck, 0.5), neck[-1]
    for name, joint in clip.roles.items():
        if name == "pelvis":
            continue
        side, role = name.split("_")
        follower = f"{side}_{_NEXT[role]}" if role in _NEXT else ""
        fix = np.eye(3)
        if role == "collar":
            pass
        elif follower in clip.roles:
            fix = least_rotation(figure[JOINT[follower]], _rest_way(clip, joint, clip.roles[follower]))
        elif role in ("wrist", "elbow"):
            ends = [j for j, parent in enumerate(clip.parents) if parent == joint and np.any(clip.offsets[j])]
            bone = figure[JOINT[f"{side}_hand"]]
            way = clip.offsets[ends[0]] if ends else _rest_way(clip, clip.parents[joint], joint)
            fix = least_rotation(bone, way)
        known[name] = turned[:, joint] @ fix
    poses = np.zeros((len(turned), 24, 3))
    whole = np.zeros((len(turned), 24, 3, 3))
    for name, joint in JOINT.items():
        parent = SMPL_PARENTS[joint]
        whole[:, joint] = known[name] if name in known else whole[:, parent]
        local = whole[:, joint] if parent < 0 else np.swapaxes(whole[:, parent], 1, 2) @ whole[:, joint]
        poses[:, joint] = Rotation.from_matrix(local).as_rotvec()
    leg = sum(
        float(np.linalg.norm(_rest_way(clip, clip.roles[a], clip.roles[b])))
        for a, b in (("left_hip", "left_knee"), ("left_knee", "left_ankle"))
    )
    return poses, clip.root * (_LEG_M / leg)


def _rest_way(clip: Clip, start: int, end: int) -> Array:
    """Offset in the rest pose from one joint to another below it."""
    way = np.zeros(3)
    while end != start and end >= 0:
        way = way + clip.offsets[end]
        end = clip.parents[end]
    return way
