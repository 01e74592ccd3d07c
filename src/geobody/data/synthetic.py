"""A multi-view data set in Human3.6M's layout, drawn from one seed, and the truth that it comes from.

One task makes everything of one (subject, action, subaction): the motion, the bodies, four views.
Each draws from generators of its own, so that neither the number of workers nor their order matters.
The tasks run on whichever joblib backend is active: processes here, Dask on a cluster.
"""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from geobody.body.model import BodyModel, read_body
from geobody.conventions import CROP_SIDE_MM, EVALUATION_SUBJECTS, MM_PER_M, N_BETAS, WORLD_FROM_BODY
from geobody.data import rooms
from geobody.data.actions import action_sequence
from geobody.data.evaluation_scenes import (
    Scene,
    drawn_outfit,
    drawn_person,
    evaluation_scenes,
    studio_of,
)
from geobody.data.h36m import SequenceName
from geobody.data.motions import load_motions
from geobody.data.outfits import PEOPLE, Anatomy, Dress, outfit_of
from geobody.data.posed_bodies import load_body, pose_bodies
from geobody.data.synthetic_files import Performance, write_mat
from geobody.errors import DataError
from geobody.geometry.cameras import Camera
from geobody.parallel import in_parallel
from geobody.render import scene

Room = tuple[np.ndarray, np.ndarray]
"""The empty room in one camera: picture (H,W,3) and share of floor (H,W)."""

N_CAMERAS: Final = len(rooms.CAMERA_AZIMUTHS_DEG)
WANDER_M: Final = 0.9
"""How far from the middle of the room people go as a rule."""
STRAY_SHARE: Final = 0.15
STRAY_M: Final = (1.2, 1.6)
"""A share of the performances is this far from the middle at its farthest: a camera cuts some of them."""
SHADOW_STRENGTH: Final = 0.42
CHAIR_IN_FRONT: Final = 0.3
CHAIR_COLOURS: Final = ((0.45, 0.30, 0.18), (0.22, 0.20, 0.20), (0.62, 0.48, 0.30))
SEATED_PELVIS_M: Final = (0.40, 0.66)


@dataclass(frozen=True)
class _Recipe:
    """What every task of one data set shares."""

    images: Path
    masks: Path
    body: Path
    motions: Path
    seed: int
    fps: float
    image_size_px: int
    jpeg_quality: int
    noise_std: float


def subject_betas(subject: int, seed: int) -> np.ndarray:
    """Shape (10,) of a subject within +-2, the same for all of their sequences."""
    rng = np.random.default_rng([seed, 7302, subject])
    return np.clip(rng.normal(0, 1.25, N_BETAS), -2, 2).astype(np.float32)


def generate(
    *,
    images: Path,
    masks: Path,
    body: Path,
    motions: Path,
    seed: int,
    subjects: tuple[int, ...],
    actions: tuple[int, ...],
    subactions: int,
    frames: int,
    fps: float,
    image_size_px: int,
    jpeg_quality: int,
    noise_std: float,
    evaluation_bodies: int = 0,
    evaluation_poses: int = 0,
    jobs: int = -1,
) -> list[Performance]:
    """Writes images, masks and ``h36m_meta.mat`` of the whole set; returns what was performed.

    Sorted by subject, action and subaction, then the bodies for evaluation alone, of one frame each.
    ``noise_std`` is in grey levels. ``jobs`` workers (-1: as many as cores) of joblib's active backend;
    the result does not depend on how many. Raises DataError if a motion cannot be read, or the body.
    """
    load_motions(motions)
    read_body(body)
    recipe = _Recipe(images, masks, body, motions, seed, fps, image_size_px, jpeg_quality, noise_std)
    tasks = [Scene(s, a, n, frames) for s in subjects for a in actions for n in range(1, subactions + 1)]
    tasks += evaluation_scenes(bodies=evaluation_bodies, poses=evaluation_poses, actions=actions, seed=seed)
    studios = dict.fromkeys(studio_of(task.subject) for task in tasks)
    views = [(studio, camera) for studio in studios for camera in range(N_CAMERAS)]
    images.parent.mkdir(parents=True, exist_ok=True)
    # Files, for a room of 1000x1000 has 16 MB, too much to send along with each task.
    with tempfile.TemporaryDirectory(prefix=".rooms-", dir=images.parent) as name:
        rooms_folder = Path(name)
        draw = functools.partial(_draw_room, recipe, rooms_folder)
        list(in_parallel(draw, views, total=len(views), desc="rooms", jobs=jobs))
        perform = functools.partial(_perform, recipe, rooms_folder)
        return list(in_parallel(perform, tasks, total=len(tasks), desc="sequences", jobs=jobs))


@functools.cache
def _template(path: Path) -> tuple[np.ndarray, np.ndarray, Anatomy]:
    arrays = read_body(path)
    anatomy = Anatomy.of(arrays["v_template"], arrays["J_regressor"], arrays["landmarks"])
    return arrays["v_template"], arrays["weights"], anatomy


def _room_file(folder: Path, studio: int, camera: int) -> Path:
    return folder / f"s_{studio:02d}_ca_{camera + 1:02d}.npz"


def _draw_room(recipe: _Recipe, folder: Path, view: tuple[int, int]) -> None:
    studio, camera = view
    picture, floor = rooms.render_room(
        rooms.cameras(seed=recipe.seed, subject=studio, image_size_px=recipe.image_size_px)[camera],
        rooms.furniture(seed=recipe.seed, subject=studio),
        rooms.light(seed=recipe.seed, subject=studio),
        seed=recipe.seed,
    )
    np.savez(_room_file(folder, studio, camera), allow_pickle=False, picture=picture, floor=floor)


def _read_room(folder: Path, studio: int, camera: int) -> Room:
    with np.load(_room_file(folder, studio, camera), allow_pickle=False) as file:
        return file["picture"], file["floor"]


def _in_world(
    model: BodyModel, recipe: _Recipe, task: Scene
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """pose (F,72), betas (10,), transl_m (F,3) and vertices (F,V,3): on the floor, in their place."""
    motion = action_sequence(
        action=task.action,
        subject=task.subject,
        subaction=task.subaction,
        frames=task.frames,
        fps=recipe.fps,
        seed=recipe.seed,
        motions=recipe.motions,
        start_s=task.start_s,
    )
    pose = motion.poses.reshape(len(motion), 72).astype(np.float32)
    upright = Rotation.from_matrix(np.array(WORLD_FROM_BODY))
    pose[:, :3] = (upright * Rotation.from_rotvec(pose[:, :3])).as_rotvec()
    transl = np.zeros((len(pose), 3), np.float32)
    transl[:, :2] = _path(upright.apply(motion.transl_m)[:, :2], recipe.seed, task)
    betas = subject_betas(task.subject, recipe.seed)
    vertices, joints = pose_bodies(model, pose, betas, transl)
    transl[:, :2] -= joints[:, 0, :2] - transl[:, :2]
    transl[:, 2] -= vertices[:, :, 2].min(1)
    vertices, _ = pose_bodies(model, pose, betas, transl)
    return pose, betas, transl, vertices


def _path(path: np.ndarray, seed: int, task: Scene) -> np.ndarray:
    """The path (F,2) moved to the scene's place, or near the middle of the room, or now and then astray."""
    path = path - (path.min(0) + path.max(0)) / 2
    if task.place_m is not None:
        return path + np.array(task.place_m)
    rng = np.random.default_rng([seed, 7304, task.subject, task.action, task.subaction])
    reach = np.hypot(*path.T).max()
    path = path * min(1.0, WANDER_M / max(reach, 1e-6))
    reach = min(reach, WANDER_M)
    angle, radius = rng.uniform(-np.pi, np.pi), max(WANDER_M - reach, 0.05) * np.sqrt(rng.uniform())
    if rng.uniform() < STRAY_SHARE:
        radius = max(rng.uniform(*STRAY_M) - reach, 0)
    return path + radius * np.array([np.cos(angle), np.sin(angle)])


def _prop(vertices: np.ndarray, weights: np.ndarray, seed: int, task: Scene) -> scene.Prop | None:
    """A stool under somebody who sits, or now and then a chair that stands about; else None."""
    rng = np.random.default_rng([seed, 7305, task.subject, task.action, task.subaction])
    colour = CHAIR_COLOURS[int(rng.integers(len(CHAIR_COLOURS)))]
    hips = vertices[:, weights[:, 0] > 0.6]
    middle, bottom = hips.mean(1), hips[..., 2].min(1)
    seated = (middle[:, 2] > SEATED_PELVIS_M[0]) & (middle[:, 2] < SEATED_PELVIS_M[1])
    if seated.mean() > 0.3:
        place = np.median(middle[seated, :2], axis=0)
        if np.hypot(*(middle[seated, :2] - place).T).max() < 0.12:
            seat = float(bottom[seated].min())
            return rooms.chair(
                place_m=place, yaw=rng.uniform(0, np.pi), seat_m=seat, back=False, colour=colour
            )
    # The background of a body for evaluation is the median of few images: they hold nothing else.
    if task.place_m is not None or rng.uniform() > CHAIR_IN_FRONT:
        return None
    for _ in range(20):
        angle, radius = rng.uniform(-np.pi, np.pi), rng.uniform(0.65, 1.1)
        place = middle[0, :2] + radius * np.array([np.cos(angle), np.sin(angle)])
        if np.hypot(*(middle[:, :2] - place).T).min() > 0.6:
            return rooms.chair(
                place_m=place, yaw=rng.uniform(-np.pi, np.pi), seat_m=0.45, back=True, colour=colour
            )
    return None


@dataclass(frozen=True)
class _View:
    """One camera during one performance."""

    name: str
    camera: Camera
    backdrop: scene.Backdrop
    gain: np.ndarray
    rng: np.random.Generator


def _dress(subject: int, action: int, seed: int, anatomy: Anatomy) -> Dress:
    if subject in EVALUATION_SUBJECTS:
        return Dress(drawn_person(subject, seed), drawn_outfit(subject, seed), anatomy)
    return Dress(PEOPLE[subject], outfit_of(subject, action), anatomy)


def _perform(recipe: _Recipe, rooms_folder: Path, task: Scene) -> Performance:
    subject, action, subaction = task.subject, task.action, task.subaction
    studio = studio_of(subject)
    model = load_body(recipe.body)
    template, weights, anatomy = _template(recipe.body)
    faces = model.faces.numpy().astype(np.uint32)
    pose, betas, transl, vertices = _in_world(model, recipe, task)
    joints = np.einsum("jv,fvc->fjc", model.J_regressor_h36m.numpy().astype(np.float64), vertices)
    dress = _dress(subject, action, recipe.seed, anatomy)
    offsets = dress.offsets_m(template)[:, None]
    light = rooms.light(seed=recipe.seed, subject=studio)
    prop = _prop(vertices, weights, recipe.seed, task)
    views = []
    cameras = rooms.cameras(seed=recipe.seed, subject=studio, image_size_px=recipe.image_size_px)
    for number, camera in enumerate(cameras):
        name = SequenceName(subject, action, subaction, number + 1).folder
        # They may be there: a cluster does a task again whose worker it lost.
        (recipe.images / name).mkdir(parents=True, exist_ok=True)
        (recipe.masks / name).mkdir(parents=True, exist_ok=True)
        write_mat(recipe.images / name / "h36m_meta.mat", _meta(camera, joints))
        gain = rooms.exposure(seed=recipe.seed, subject=studio, camera=number)
        rng = np.random.default_rng([recipe.seed, 7306, subject, action, subaction, number])
        room = _read_room(rooms_folder, studio, number)
        views.append(_View(name, camera, scene.with_prop(*room, prop, camera, light), gain, rng))
    dressed = np.empty_like(vertices)
    for f in range(len(pose)):
        normals = scene.vertex_normals(vertices[f], faces)
        dressed[f] = vertices[f] + offsets * normals
        shadow = scene.floor_shadow(dressed[f], faces, light, prop)
        for view in views:
            picture, coverage = scene.draw_body(
                backdrop=view.backdrop,
                camera=view.camera,
                light=light,
                shadow=shadow,
                shadow_strength=SHADOW_STRENGTH,
                vertices_m=dressed[f],
                normals=normals,
                faces=faces,
                template=template,
                albedo=dress.albedo,
            )
            image = scene.sensor(picture, gain=view.gain, noise_std=recipe.noise_std, rng=view.rng)
            file = f"{view.name}_{f + 1:06d}"
            quality = [cv2.IMWRITE_JPEG_QUALITY, recipe.jpeg_quality]
            _write_image(recipe.images / view.name / f"{file}.jpg", image[..., ::-1], quality)
            mask = np.where(coverage >= 0.5, np.uint8(255), np.uint8(0))
            _write_image(recipe.masks / view.name / f"{file}.png", mask, [])
    facts = [_facts(view.camera, view.backdrop, pose, joints, dressed) for view in views]
    stacked = {key: np.stack([fact[key] for fact in facts], axis=1) for key in facts[0]}
    return Performance(subject, action, subaction, pose, betas, transl, **stacked)


def _write_image(path: Path, image: np.ndarray, flags: list[int]) -> None:
    ok, data = cv2.imencode(path.suffix, image, flags)
    if not ok:
        raise DataError(path, "cannot be encoded", "check params.yaml: synth.image_size_px")
    path.write_bytes(data.tobytes())


def _meta(camera: Camera, joints_m: np.ndarray) -> dict[str, Any]:
    return {
        "pose3d_world": joints_m * MM_PER_M,
        "R": camera.R_world_to_cam,
        "T": camera.centre_world_mm[None],
        "f": camera.focal_px[None],
        "c": camera.principal_px[None],
        "img_width": float(camera.width_px),
        "img_height": float(camera.height_px),
    }


def _facts(
    camera: Camera, backdrop: scene.Backdrop, pose: np.ndarray, joints: np.ndarray, dressed: np.ndarray
) -> dict[str, np.ndarray]:
    """Facts of one view that the metrics count: see ``Performance``."""
    front = Rotation.from_rotvec(pose[:, :3]).apply([0.0, 0.0, 1.0])[:, :2]
    to_camera = camera.centre_world_mm[:2] / MM_PER_M - joints[:, 0, :2]
    turn = np.arctan2(front[:, 1], front[:, 0]) - np.arctan2(to_camera[:, 1], to_camera[:, 0])
    px, depths = scene.project(camera, joints)
    size = np.array([camera.width_px, camera.height_px]) * scene.SUPERSAMPLING
    cell = np.rint((px + 0.5) * scene.SUPERSAMPLING - 0.5).astype(int)
    inside = ((cell >= 0) & (cell < size)).all(-1)
    cell = np.clip(cell, 0, size - 1)
    hidden = inside & (backdrop.depth_m[cell[..., 1], cell[..., 0]] < depths)
    body_px, _ = scene.project(camera, dressed)
    half = CROP_SIDE_MM / MM_PER_M / 2 * camera.focal_px / depths[:, 0, None]
    beyond = np.abs(body_px - px[:, :1]) > half[:, None]
    outside = (body_px < -0.5) | (body_px > np.array([camera.width_px, camera.height_px]) - 0.5)
    return {
        "facing_deg": np.rad2deg(np.abs(np.arctan2(np.sin(turn), np.cos(turn)))),
        "joints_hidden": hidden.mean(1),
        "crosses_crop": beyond.any((1, 2)),
        "crosses_image": outside.any((1, 2)),
    }
