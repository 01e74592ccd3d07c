"""What ``geobody predict`` reads and writes: images and masks in, a folder of five files for each image out.

A folder appears whole or not at all: it is filled under a temporary name beside its place and then renamed.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from trimesh.visual.material import PBRMaterial

from geobody.conventions import H36M_JOINTS
from geobody.data.user_crops import Box, CropFrom, UserCrop, check_box, check_given, check_square
from geobody.errors import DataError, ParamsError
from geobody.full_disk import full_disk
from geobody.geometry.cameras import Camera
from geobody.predict import Prediction, Predictor, check_counts
from geobody.render.overlay import COLOUR, draw_over
from geobody.render.scene import vertex_normals

CROP, JOINTS, SMPL, MESH, OVERLAY = "crop.png", "joints.json", "smpl.npz", "body.glb", "overlay.png"
FILES: Final = (CROP, JOINTS, SMPL, MESH, OVERLAY)

READ_AT_ONCE: Final = 16
"""Images in memory at a time: photographs have tens of MB each."""
OVERLAY_PX: Final = 256
"""Smaller images are enlarged for their overlays."""
FRAME: Final = "the image's camera: x right, y down, z forward; joints relative to the hip"
GLTF_FROM_CAMERA: Final = np.array([1.0, -1.0, -1.0])
"""glTF has y up, and its camera looks along -z."""

_IMAGE_CURE = "give a whole JPEG, PNG or other picture that Pillow reads, or leave it out"
_MASK_CURE = "give a whole picture that is white where the person is"


@dataclass(frozen=True)
class Inputs:
    """Images with what is known of them, one box or mask for each or none; see `Predictor.__call__`."""

    images: tuple[Path, ...]
    boxes: tuple[Box, ...] | None = None
    masks: tuple[Path, ...] | None = None
    crop: CropFrom | None = None
    focal_px: float | None = None

    @property
    def way(self) -> CropFrom:
        """What shows the person."""
        return self.crop or (
            "box" if self.boxes is not None else "mask" if self.masks is not None else "whole"
        )

    def check(self) -> None:
        """Raises DataError or ParamsError for what can be seen without decoding the images."""
        check_counts(len(self.images), boxes=self.boxes, masks=self.masks)
        taken: dict[str, Path] = {}
        for i, path in enumerate(self.images):
            if path.stem in taken:
                raise ParamsError(
                    f"{path}: is called as {taken[path.stem]}, and results are named after their images; rename "
                    "one, or predict them into two folders"
                )
            taken[path.stem] = path
            width, height = picture_size(path, _IMAGE_CURE)
            if self.masks is not None and (size := picture_size(self.masks[i], _MASK_CURE)) != (
                width,
                height,
            ):
                found, wanted = (f"{w}x{h}" for w, h in (size, (width, height)))
                raise DataError(self.masks[i], f"is {found} pixels, not {wanted} as {path}", _MASK_CURE)
            if self.way == "whole":
                check_square(width, height, str(path))
            check_given(self.way, box=self.boxes, mask=self.masks, name=str(path))
            if self.way == "box" and self.boxes is not None:
                check_box(self.boxes[i], width=width, height=height, name=str(path))


class Written(NamedTuple):
    """An image's folder, the crop that it was predicted from, and `Prediction.misplaced`."""

    folder: Path
    crop: UserCrop
    misplaced: bool


def predict_files(predictor: Predictor, inputs: Inputs, out: Path) -> Iterator[Written]:
    """Yields what was written of each image into a folder in ``out`` once it is there, in the order of the images.

    An older folder of that name is replaced. Raises DataError for an image that cannot be decoded; the folders
    of those before it are there then.
    """
    inputs.check()
    predictor.check_masks(given=inputs.masks is not None)
    out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(inputs.images), READ_AT_ONCE):
        rows = slice(start, start + READ_AT_ONCE)
        paths, images, masks, failed = inputs.images[rows], [], [], None
        for i, path in enumerate(paths, start=start):
            try:
                image = read_picture(path)
                if inputs.masks is not None:
                    masks.append(read_mask_picture(inputs.masks[i]))
                images.append(image)
            except DataError as error:  # those before it are still predicted
                failed = error
                break
        if images:
            found = predictor(
                images,
                boxes=None if inputs.boxes is None else inputs.boxes[start : start + len(images)],
                masks=masks or None,
                crop=inputs.way,
                focal_px=inputs.focal_px,
                names=[str(path) for path in paths[: len(images)]],
            )
            for i, image in enumerate(images):
                record = joints_record(found, i, inputs=inputs, place=start + i)
                folder = write_prediction(out / paths[i].stem, found, i, image=image, record=record)
                yield Written(folder, found.crops[i], bool(found.misplaced[i]))
        if failed:
            raise failed


def picture_size(path: Path, cure: str) -> tuple[int, int]:
    """Width and height of the picture in ``path`` as it is to be seen, from its first bytes."""
    with _opened(path, cure) as picture:
        turned = picture.getexif().get(0x0112, 1) >= 5  # orientations that swap the sides
        return picture.size[::-1] if turned else picture.size


def read_picture(path: Path) -> NDArray[np.uint8]:
    """The picture (H,W,3) uint8 RGB in ``path``, turned as its camera says. Raises DataError if it is broken."""
    with _opened(path, _IMAGE_CURE) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


def read_mask_picture(path: Path) -> NDArray[np.uint8]:
    """The mask (H,W) uint8 in ``path``. Raises DataError if it is broken."""
    with _opened(path, _MASK_CURE) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("L"))


@contextlib.contextmanager
def _opened(path: Path, cure: str) -> Iterator[Image.Image]:
    if not path.is_file():
        raise DataError(path, "is no file" if path.exists() else "is missing", cure)
    try:
        with Image.open(path) as picture:
            yield picture
    except UnidentifiedImageError:
        raise DataError(path, "is no picture", cure) from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(path, f"cannot be decoded ({reason})", cure) from error


def write_prediction(
    folder: Path, found: Prediction, i: int, *, image: NDArray[np.uint8], record: Mapping[str, Any]
) -> Path:
    """Writes ``FILES`` for row ``i`` of ``found`` into ``folder``, which is replaced as a whole.

    ``record`` is what `joints_record` says of it.
    """
    temporary, old = (folder.with_name(f".tmp-{kind}-{folder.name}") for kind in ("new", "old"))
    crop = found.crops[i]
    try:
        for left in (temporary, old):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
        Image.fromarray(crop.image).save(temporary / CROP)
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
        (temporary / JOINTS).write_text(f"{{\n{lines}\n}}\n")
        np.savez(temporary / SMPL, allow_pickle=False, **smpl_arrays(found, i))
        (temporary / MESH).write_bytes(glb(found.vertices[i], found.faces))
        drawn = overlay(image, camera=crop.camera, vertices=found.vertices[i], faces=found.faces)
        # A photograph's noise hardly compresses, and trying harder takes longer than the prediction.
        Image.fromarray(drawn).save(temporary / OVERLAY, compress_level=1)
        if folder.exists():
            os.rename(folder, old)
        os.rename(temporary, folder)
    except Exception as error:
        if place := full_disk(error, [folder.parent]):
            raise DataError(place, "no space left on the device", "free some and run this again") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def joints_record(found: Prediction, i: int, *, inputs: Inputs, place: int) -> dict[str, Any]:
    """What ``joints.json`` says of row ``i``, image ``place`` of the inputs: joints in mm, and the cameras."""
    crop = found.crops[i]
    return {
        "image": str(inputs.images[place]),
        "frame": FRAME,
        "joint_names": list(H36M_JOINTS),
        "joints_mm": found.joints_mm[i].astype(np.float64).round(2).tolist(),
        "body_joints_mm": found.body_joints_mm[i].astype(np.float64).round(2).tolist(),
        "root_mm": crop.root_mm.round(1).tolist(),
        "camera": {
            "width_px": crop.camera.width_px,
            "height_px": crop.camera.height_px,
            "focal_px": round(float(crop.camera.focal_px[0]), 3),
            "focal_is_assumed": inputs.focal_px is None,
            "principal_px": crop.camera.principal_px.tolist(),
        },
        "crop": {
            "from": inputs.way,
            "box_px": None if inputs.boxes is None else list(inputs.boxes[place]),
            "mask": None if inputs.masks is None else str(inputs.masks[place]),
            "root_found": crop.root_found,
            "misplaced": bool(found.misplaced[i]),
            "size_px": crop.virtual.crop_size_px,
            "focal_px": round(crop.virtual.focal_px, 3),
            "depth_mm": round(crop.virtual.depth_mm, 1),
            "R_cam_to_crop": crop.virtual.R_cam_to_crop.round(9).tolist(),
        },
    }


def smpl_arrays(found: Prediction, i: int) -> Mapping[str, NDArray]:
    """SMPL's parameters of row ``i`` under the names that its tools read; axis-angle, metres, one frame.

    AMASS and what loads it: poses (1,72), trans (1,3), betas (10,), gender, mocap_framerate. ``smplx``:
    global_orient (1,3), body_pose (1,69), transl (1,3), and betas with a row axis added.
    """
    poses = found.row(i).poses
    transl = found.transl[i : i + 1]
    return {
        "poses": poses,
        "trans": transl,
        "betas": found.betas[i],
        "gender": np.array("neutral"),
        "mocap_framerate": np.array(30.0),  # one frame has no rate, but loaders ask for it
        "global_orient": poses[:, :3],
        "body_pose": poses[:, 3:],
        "transl": transl,
    }


def glb(vertices: NDArray, faces: NDArray) -> bytes:
    """A binary glTF of a mesh ``vertices`` (V,3) m in a camera's frame; in glTF's axes, the camera at the origin."""
    placed = vertices * GLTF_FROM_CAMERA
    normals = vertex_normals(placed, faces)  # trimesh' own take ten times as long
    mesh = trimesh.Trimesh(placed, faces, vertex_normals=normals, process=False)
    material = PBRMaterial(baseColorFactor=[*COLOUR, 1.0], metallicFactor=0.0, roughnessFactor=0.8)
    mesh.visual = trimesh.visual.TextureVisuals(material=material)
    data = mesh.export(file_type="glb", include_normals=True)
    assert isinstance(data, bytes)  # of the many types that export returns, this format's
    return data


def overlay(
    image: NDArray[np.uint8], *, camera: Camera, vertices: NDArray, faces: NDArray
) -> NDArray[np.uint8]:
    """The image with the body over it, RGB; at least ``OVERLAY_PX`` on its longer side."""
    times = -(-OVERLAY_PX // max(image.shape[:2]))
    if times > 1:
        size = (times * camera.width_px, times * camera.height_px)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        camera = Camera(
            R_world_to_cam=camera.R_world_to_cam,
            centre_world_mm=camera.centre_world_mm,
            focal_px=times * camera.focal_px,
            principal_px=times * (camera.principal_px + 0.5) - 0.5,
            width_px=size[0],
            height_px=size[1],
        )
    return draw_over(image, camera=camera, vertices_m=vertices, faces=faces)


def as_boxes(given: Sequence[Sequence[float]] | None) -> tuple[Box, ...] | None:
    """Boxes of the command line: None stays None."""
    return None if given is None else tuple((x, y, width, height) for x, y, width, height in given)
