"""The room of the synthetic set, its four cameras per subject, its light, and chairs.

One room for all subjects, as in a studio: what differs between subjects is what differs between
days (cameras moved by centimetres, a few things moved, another exposure). World frame in metres:
z up, floor at z = 0, the people near the origin.
"""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from geobody.conventions import MM_PER_M
from geobody.geometry.cameras import Camera
from geobody.render.scene import SUPERSAMPLING, Light, Prop, project

HALF_SIDE_M: Final = 5.2
CEILING_M: Final = 3.1
CAMERA_HEIGHTS_M: Final = (1.55, 1.35, 1.70, 1.30)
CAMERA_AZIMUTHS_DEG: Final = (48.0, 137.0, 226.0, 313.0)
CAMERA_DISTANCES_M: Final = (4.5, 4.35, 4.6, 4.4)
FOCAL_PER_PX: Final = 1.3
"""Focal length over image width; Human3.6M's cameras have 1.15 and stand a little farther away."""

WALL_COLOURS: Final = ((0.80, 0.77, 0.70), (0.70, 0.76, 0.78), (0.82, 0.80, 0.78), (0.75, 0.78, 0.71))
"""East (+x), north (+y), west, south: light and grey, so that clothes stand out."""


@dataclass(frozen=True)
class Box:
    """A box of furniture: centre and size in metres, turned by ``yaw`` radians about z."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    colour: tuple[float, float, float]
    pattern: str


def subject_rng(seed: int, *key: int) -> np.random.Generator:
    """The generator of one thing of the room, so that no other draw can move it."""
    return np.random.default_rng([seed, 7301, *key])


def cameras(*, seed: int, subject: int, image_size_px: int) -> tuple[Camera, ...]:
    """Four calibrated cameras around the origin: the studio's, moved a little for the subject."""
    rng = subject_rng(seed, 1, subject)
    result = []
    for azimuth, distance, height in zip(
        CAMERA_AZIMUTHS_DEG, CAMERA_DISTANCES_M, CAMERA_HEIGHTS_M, strict=True
    ):
        angle = np.deg2rad(azimuth + rng.uniform(-2.5, 2.5))
        centre = np.array([np.cos(angle), np.sin(angle), 0.0]) * (distance + rng.uniform(-0.1, 0.1))
        centre[2] = height + rng.uniform(-0.08, 0.08)
        aim = np.array([rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), 0.92 + rng.uniform(-0.05, 0.05)])
        forward = aim - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        roll = np.deg2rad(rng.uniform(-1.0, 1.0))
        level = np.stack([right, np.cross(forward, right), forward])
        turn = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        size = image_size_px
        focal = size * FOCAL_PER_PX * (1 + rng.uniform(-0.01, 0.01))
        result.append(
            Camera(
                R_world_to_cam=turn @ level,
                centre_world_mm=centre * MM_PER_M,
                focal_px=np.array([focal, focal * (1 + rng.uniform(-0.002, 0.002))]),
                principal_px=(size - 1) / 2 + rng.uniform(-0.012, 0.012, 2) * size,
                width_px=size,
                height_px=size,
            )
        )
    return tuple(result)


def light(*, seed: int, subject: int) -> Light:
    """The studio's light, a little different for every subject."""
    rng = subject_rng(seed, 2, subject)
    azimuth = np.deg2rad(70 + rng.uniform(-25, 25))
    elevation = np.deg2rad(58 + rng.uniform(-6, 6))
    direction = np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    ambient = 0.66 + rng.uniform(-0.05, 0.05)
    return Light(direction=direction, ambient=ambient, diffuse=1.14 - ambient)


def exposure(*, seed: int, subject: int, camera: int) -> np.ndarray:
    """Gain (3,) of the channels of a camera: exposure by subject, white balance by camera."""
    by_subject = subject_rng(seed, 3, subject).uniform(0.88, 1.14)
    balance = 1 + subject_rng(seed, 4, camera).uniform(-0.03, 0.03, 3)
    return by_subject * balance


def furniture(*, seed: int, subject: int) -> tuple[Box, ...]:
    """What stands along the walls, out of reach of the people; some of it moves between subjects."""
    rng = subject_rng(seed, 5, subject)
    w = HALF_SIDE_M
    wood, dark, white, red = (0.62, 0.45, 0.30), (0.34, 0.27, 0.23), (0.88, 0.87, 0.85), (0.58, 0.30, 0.26)
    green, blue, grey = (0.36, 0.46, 0.36), (0.36, 0.43, 0.56), (0.50, 0.50, 0.52)

    def jitter(scale: float = 0.12) -> float:
        return float(rng.uniform(-scale, scale))

    boxes = [
        # East wall: bookshelves and a low cabinet with a screen.
        Box((w - 0.2, 2.6 + jitter(), 1.0), (0.36, 1.7, 2.0), 0, wood, "books"),
        Box((w - 0.25, 0.1 + jitter(), 0.3), (0.45, 1.9, 0.6), 0, white, "drawers"),
        Box((w - 0.25, 0.1 + jitter(), 0.98), (0.06, 1.25, 0.7), 0, (0.13, 0.14, 0.16), "plain"),
        Box((w - 0.5, -3.3 + jitter(), 0.42), (0.85, 1.9, 0.26), 0, green, "cushion"),
        Box((w - 0.14, -3.3, 0.62), (0.22, 1.9, 0.75), 0, green, "cushion"),
        # North wall: desk with a chair, a plant, a sideboard.
        Box((-2.6 + jitter(), w - 0.4, 0.73), (1.7, 0.7, 0.05), 0, wood, "wood"),
        Box((-3.38, w - 0.4, 0.36), (0.05, 0.62, 0.7), 0, wood, "wood"),
        Box((-1.82, w - 0.4, 0.36), (0.05, 0.62, 0.7), 0, wood, "wood"),
        Box((-2.7 + jitter(), w - 0.5, 0.93), (0.5, 0.05, 0.34), 0.3, (0.16, 0.17, 0.19), "plain"),
        Box((1.2 + jitter(), w - 0.22, 0.45), (1.6, 0.4, 0.9), 0, dark, "drawers"),
        Box((3.9 + jitter(), w - 0.55, 0.22), (0.42, 0.42, 0.44), 0.2, red, "plain"),
        Box((3.9, w - 0.55, 0.95), (0.62, 0.62, 1.0), 0.6, (0.24, 0.40, 0.22), "leaves"),
        # West wall: sofa, shelf, boxes.
        Box((-w + 0.5, 0.4 + jitter(), 0.28), (0.9, 2.2, 0.36), 0, blue, "cushion"),
        Box((-w + 0.16, 0.4, 0.55), (0.25, 2.2, 0.75), 0, blue, "cushion"),
        Box((-w + 0.2, -2.9 + jitter(), 0.85), (0.38, 1.4, 1.7), 0, white, "books"),
        Box(
            (-w + 0.6, 3.3 + jitter(), 0.25), (0.6, 0.6, 0.5), 0.3 + jitter(0.4), (0.70, 0.57, 0.40), "carton"
        ),
        Box((-w + 0.55, 3.35, 0.66), (0.45, 0.42, 0.32), 0.8 + jitter(0.4), (0.73, 0.60, 0.44), "carton"),
        # South wall: wardrobe, table, bench.
        Box((-2.9 + jitter(), -w + 0.3, 1.05), (1.5, 0.55, 2.1), 0, white, "drawers"),
        Box((0.5 + jitter(), -w + 0.5, 0.72), (1.6, 0.8, 0.06), 0, dark, "wood"),
        Box((-0.2, -w + 0.5, 0.35), (0.08, 0.6, 0.7), 0, dark, "wood"),
        Box((1.2, -w + 0.5, 0.35), (0.08, 0.6, 0.7), 0, dark, "wood"),
        Box((0.3 + jitter(), -w + 0.45, 0.86), (0.3, 0.2, 0.22), 0.4, red, "plain"),
        Box((3.4 + jitter(), -w + 0.35, 0.24), (1.5, 0.45, 0.48), 0, grey, "cushion"),
    ]
    # Pictures, a window and a door hang in or before the walls.
    boxes += [
        Box((w - 0.01, -1.9, 1.75), (0.05, 0.8, 0.6), 0, (0.55, 0.62, 0.70), "picture"),
        Box((1.2, w - 0.01, 1.75), (1.5, 0.05, 1.1), 0, (0.86, 0.91, 0.95), "window"),
        Box((-0.6, w - 0.01, 1.7), (0.6, 0.05, 0.8), 0, (0.70, 0.58, 0.50), "picture"),
        Box((-w + 0.01, -0.9, 1.75), (0.05, 0.7, 0.7), 0, (0.60, 0.66, 0.58), "picture"),
        Box((-w + 0.01, 2.0, 1.05), (0.06, 0.95, 2.1), 0, (0.66, 0.55, 0.43), "door"),
        Box((2.3, -w + 0.01, 1.75), (1.5, 0.05, 1.1), 0, (0.86, 0.91, 0.95), "window"),
        Box((0.4, -w + 0.01, 1.8), (0.7, 0.05, 0.5), 0, (0.68, 0.63, 0.50), "picture"),
    ]
    return tuple(boxes)


def render_room(
    camera: Camera, boxes: tuple[Box, ...], lamp: Light, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The empty room: picture (H,W,3) float32 RGB in [0,1] and share of floor (H,W) float32.

    Every pixel's rays (2x2) meet the nearest of walls, floor, ceiling and boxes; patterns are
    functions of the place that they hit.
    """
    s = SUPERSAMPLING
    height, width = camera.height_px * s, camera.width_px * s
    x, y = np.meshgrid((np.arange(width) + 0.5) / s - 0.5, (np.arange(height) + 0.5) / s - 0.5)
    in_camera = np.stack(
        [
            (x - camera.principal_px[0]) / camera.focal_px[0],
            (y - camera.principal_px[1]) / camera.focal_px[1],
            np.ones_like(x),
        ],
        axis=-1,
    ).reshape(-1, 3)
    rays = in_camera @ camera.R_world_to_cam
    origin = camera.centre_world_mm / MM_PER_M
    half = np.array([HALF_SIDE_M, HALF_SIDE_M, CEILING_M / 2])
    shift = np.array([0, 0, CEILING_M / 2])
    with np.errstate(divide="ignore"):
        to_walls = (np.sign(rays) * half - (origin - shift)) / rays
    to_walls[~np.isfinite(to_walls)] = np.inf
    axis = to_walls.argmin(1)
    distance = to_walls.min(1)
    hit = origin + rays * distance[:, None]
    normals = np.zeros_like(rays)
    index = np.arange(len(rays))
    normals[index, axis] = -np.sign(rays[index, axis])

    colours = _wall_colours(hit, normals)
    on_floor = (axis == 2) & (rays[:, 2] < 0)
    colours[on_floor] = _floor_colours(hit[on_floor, :2], boxes, lamp, seed)
    for number, box in enumerate(boxes):
        maybe = _pixels_near(camera, box, x, y)
        near, face, local = _meet_box(origin, rays[maybe], box)
        hits = near < distance[maybe]
        closer = maybe[hits]
        if len(closer) == 0:
            continue
        distance[closer] = near[hits]
        on_floor[closer] = False
        cos, sin = np.cos(box.yaw), np.sin(box.yaw)
        normals[closer] = face[hits] @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        colours[closer] = _box_colours(local[hits], face[hits], box, number)
    colours *= np.where(normals[:, 2] < -0.5, 0.86, lamp.shade(normals))[:, None]
    image = np.clip(colours, 0, 1).reshape(height, width, 3).astype(np.float32)
    size = (camera.width_px, camera.height_px)
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        cv2.resize(on_floor.reshape(height, width).astype(np.float32), size, interpolation=cv2.INTER_AREA),
    )


def _wall_colours(hit: np.ndarray, normals: np.ndarray) -> np.ndarray:
    colours = np.full((len(hit), 3), (0.90, 0.90, 0.88))
    for wall, (axis, sign) in enumerate(((0, -1), (1, -1), (0, 1), (1, 1))):
        mine = normals[:, axis] == sign
        colours[mine] = WALL_COLOURS[wall]
        along, up = hit[mine, 1 - axis], hit[mine, 2]
        if wall == 0:  # Wide, faint stripes of wallpaper.
            colours[mine] *= np.where(np.floor(along / 0.28) % 2 == 0, 1.0, 0.955)[:, None]
        if wall == 2:  # Panels up to the hip.
            panel = (up < 0.95) & (np.abs((along / 0.6) % 1 - 0.5) < 0.47)
            colours[mine] *= np.where(panel, 0.93, 1.0)[:, None]
        if wall == 3:  # Faint bricks.
            row = np.floor(up / 0.12)
            joint = ((up / 0.12) % 1 < 0.1) | (((along / 0.3 + 0.5 * (row % 2)) % 1) < 0.04)
            colours[mine] *= np.where(joint, 0.9, 1.0)[:, None]
        skirting = up < 0.1
        shaded = colours[mine]
        shaded[skirting] = (0.86, 0.84, 0.80)
        # Corners and the foot of a wall receive less light.
        corner = 1 - 0.16 * np.exp(-(HALF_SIDE_M - np.abs(along)) / 0.5) - 0.08 * np.exp(-up / 0.4)
        colours[mine] = shaded * corner[:, None]
    return colours


def _floor_colours(place: np.ndarray, boxes: tuple[Box, ...], lamp: Light, seed: int) -> np.ndarray:
    tones = subject_rng(seed, 6).uniform(0.90, 1.08, 4096)
    x, y = place[:, 0], place[:, 1]
    plank = np.floor(x / 0.16).astype(int)
    part = np.floor(y / 1.3 + 0.37 * plank).astype(int)
    tone = tones[(plank * 61 + part * 17) % 4096]
    grain = 1 + 0.025 * np.sin(90 * x + 3 * np.sin(2.1 * y + plank))
    seam = ((x / 0.16) % 1 < 0.05) | (((y / 1.3 + 0.37 * plank) % 1) < 0.008)
    colours = np.array([0.66, 0.55, 0.43]) * (tone * grain * np.where(seam, 0.82, 1))[:, None]
    radius = np.hypot(x, y)
    rug = radius < 2.1
    ring = np.floor(radius / 0.3) % 2
    woven = 1 + 0.03 * np.sin(160 * x) * np.sin(160 * y)
    colours[rug] = (np.where(ring[:, None] == 0, (0.63, 0.60, 0.56), (0.58, 0.55, 0.52)) * woven[:, None])[
        rug
    ]
    border = (radius > 2.0) & rug
    colours[border] = (0.46, 0.40, 0.38)
    for box in boxes:
        bottom = box.centre[2] - box.size[2] / 2
        if bottom > 0.2:
            continue
        shift = lamp.direction[:2] / lamp.direction[2] * min(box.size[2], 0.6) / 2
        local = (place - (np.array(box.centre[:2]) - shift)) @ _turn(box.yaw)
        outside = np.maximum(np.abs(local) - np.array(box.size[:2]) / 2, 0)
        colours *= (1 - 0.34 * np.exp(-np.hypot(outside[:, 0], outside[:, 1]) / 0.14))[:, None]
    edge = HALF_SIDE_M - np.maximum(np.abs(x), np.abs(y))
    return colours * (1 - 0.2 * np.exp(-edge / 0.3))[:, None]


def _turn(yaw: float) -> np.ndarray:
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin], [sin, cos]])


def _pixels_near(camera: Camera, box: Box, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the pixels that a box may cover: those in the rectangle around its corners."""
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
    corners = signs * np.array(box.size) / 2
    corners[:, :2] = corners[:, :2] @ _turn(box.yaw).T
    px, depths = project(camera, corners + np.array(box.centre))
    if (depths < 0.05).all():
        return np.zeros(0, int)
    if (depths < 0.05).any():
        return np.arange(x.size)
    (left, top), (right, bottom) = px.min(0), px.max(0)
    return np.flatnonzero((x >= left) & (x <= right) & (y >= top) & (y <= bottom))


def _meet_box(origin: np.ndarray, rays: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance along each ray (inf: missed), normal in the box's frame, place in [-1,1]^3 on the box."""
    turn = np.eye(3)
    turn[:2, :2] = _turn(box.yaw)
    start = (origin - np.array(box.centre)) @ turn
    local = rays @ turn
    half = np.array(box.size) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (-half - start) / local, (half - start) / local
    enter = np.minimum(first, second)
    near, far = enter.max(1), np.maximum(first, second).min(1)
    near = np.where((near < far) & (near > 0.05), near, np.inf)
    axis = enter.argmax(1)
    index = np.arange(len(rays))
    normals = np.zeros_like(rays)
    normals[index, axis] = -np.sign(local[index, axis])
    with np.errstate(invalid="ignore"):
        place = (start + local * np.where(np.isfinite(near), near, 0)[:, None]) / half
    return near, normals, place


def _box_colours(place: np.ndarray, normals: np.ndarray, box: Box, number: int) -> np.ndarray:
    """Colours of places (N,3) in [-1,1]^3 on a box; ``normals`` tell the side."""
    colours = np.tile(np.array(box.colour), (len(place), 1))
    upright = np.abs(normals[:, 2]) < 0.5
    wide = 1 if box.size[1] >= box.size[0] else 0
    u, v = place[:, wide], place[:, 2]
    u_m, v_m = u * box.size[wide] / 2, v * box.size[2] / 2
    front = upright & (np.abs(normals[:, 1 - wide]) > 0.5)
    frame = (np.abs(u) > 1 - 0.06 / box.size[wide]) | (np.abs(v) > 1 - 0.06 / box.size[2])
    if box.pattern == "books":
        shelf = np.floor((v_m + box.size[2] / 2) / 0.34)
        in_shelf = ((v_m + box.size[2] / 2) / 0.34) % 1
        book = np.floor(u_m / 0.055 + 7 * shelf).astype(int)
        hue = (book * 37 + shelf.astype(int) * 11 + number) % 97 / 97
        tall = 0.55 + 0.35 * ((book * 53 + number) % 31) / 31
        muted = 0.42 + 0.2 * np.cos(2 * np.pi * (hue[:, None] + np.array([0, 0.33, 0.67])))
        here = front & ~frame & (in_shelf > 0.08) & (in_shelf < tall)
        empty = front & ~frame & ~here & (in_shelf > 0.08)
        colours[here] = muted[here]
        colours[empty] *= 0.45
    elif box.pattern == "drawers":
        gap = (np.abs((v_m / 0.3) % 1 - 0.5) > 0.47) | (np.abs((u_m / 0.6) % 1 - 0.5) > 0.485)
        knob = np.hypot(((u_m / 0.6) % 1 - 0.5) * 0.6, ((v_m / 0.3) % 1 - 0.5) * 0.3) < 0.025
        colours[front & gap] *= 0.75
        colours[front & knob] *= 0.5
    elif box.pattern == "wood":
        colours *= (1 + 0.06 * np.sin(40 * u_m + 3 * np.sin(6 * v)))[:, None]
    elif box.pattern == "cushion":
        seam = np.abs((u_m / 0.62) % 1 - 0.5) > 0.475
        colours *= np.where(seam, 0.8, 1.0)[:, None]
        colours *= (1 - 0.12 * np.abs(u) ** 6)[:, None]
    elif box.pattern == "leaves":
        leaf = np.sin(31 * place[:, 0] + 4 * np.sin(9 * v)) * np.sin(27 * place[:, 1] + 23 * v)
        colours *= (1 + 0.4 * leaf)[:, None]
    elif box.pattern == "picture":
        colours[front] *= (1 + 0.25 * np.sin(5 * u[front] + number) * np.cos(4 * v[front]))[:, None]
        hill = front & (v < 0.3 * np.sin(3 * u + number) - 0.1)
        colours[hill] *= np.array([0.72, 0.80, 0.66])
        colours[front & frame] = (0.30, 0.24, 0.20)
    elif box.pattern == "window":
        colours[front] = np.array([0.80, 0.88, 0.96]) + 0.06 * v[front, None]
        bars = front & (frame | (np.abs(u) < 0.03) | (np.abs(v - 0.2) < 0.03))
        colours[bars] = (0.93, 0.93, 0.92)
    elif box.pattern == "door":
        panel = front & (np.abs(u) < 0.72) & (np.abs(np.abs(v) - 0.45) < 0.36)
        colours[panel] *= 0.9
        colours[front & (np.hypot((u - 0.8) * 0.5, v * 1.05) < 0.05)] = (0.75, 0.72, 0.65)
    elif box.pattern == "carton":
        colours[front & (np.abs(u) < 0.06)] *= 1.12
    return colours


def chair(
    *, place_m: np.ndarray, yaw: float, seat_m: float, back: bool, colour: tuple[float, float, float]
) -> Prop:
    """A chair (or, without a back, a stool) whose seat's middle is above ``place_m`` (x, y)."""
    half, leg = 0.21, 0.022
    parts = [((0.0, 0.0, seat_m - 0.02), (2 * half, 2 * half, 0.04))]
    for x in (-1, 1):
        for y in (-1, 1):
            tall = 0.92 if back and y > 0 else seat_m - 0.04
            corner = (x * (half - leg), y * (half - leg), tall / 2)
            parts.append((corner, (2 * leg, 2 * leg, tall)))
    if back:
        for z in (0.62, 0.84):
            parts.append(((0.0, half - leg, z), (2 * half - 4 * leg, 0.02, 0.1)))
    turn = np.eye(3)
    turn[:2, :2] = _turn(yaw)
    points: list[np.ndarray] = []
    normals: list[np.ndarray] = []
    faces: list[list[int]] = []
    for centre, size in parts:
        for axis in range(3):
            for sign in (-1, 1):
                corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
                side = np.insert(corners, axis, sign, axis=1)
                first = 4 * len(points)
                points.append((side * np.array(size) / 2 + np.array(centre)) @ turn.T)
                normals.append(np.tile(turn[:, axis] * sign, (4, 1)))
                faces += [[first, first + 1, first + 2], [first, first + 2, first + 3]]
    points_m = np.concatenate(points)
    points_m[:, :2] += place_m
    return Prop(
        points_m=points_m,
        faces=np.array(faces, np.uint32),
        colours=np.tile(np.array(colour), (len(points_m), 1)),
        normals=np.concatenate(normals),
    )
