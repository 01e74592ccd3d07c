"""Human3.6M's files: names of folders and frames, ``h36m_meta.mat``, images and masks.

A sequence is a folder ``s_01_act_02_subact_01_ca_01`` of images ``<folder>_000001.jpg``, ...; frame n
is row n - 1 of its poses. The ``.mat`` lies beside the images, or in a folder of the same name under
``annotations``; masks are ``.png`` or ``.jpg`` in a folder of the same name under a root of their own.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.io
from numpy.typing import NDArray

from geobody.errors import DataError
from geobody.geometry.cameras import Camera, centre_from_translation, rotation_error

META_NAME = "h36m_meta.mat"
IMAGE_SUFFIX = ".jpg"
MASK_SUFFIXES = (".png", ".jpg")
ROTATION_TOLERANCE = 1e-3
FRAME_PATTERN = r"^(?P<stem>.+)_(?P<number>\d{6})\.(?:jpg|png)$"

_FOLDER = re.compile(r"s_(\d{2}|[1-9]\d{2})_act_(\d{2})_subact_(\d{2})_ca_(\d{2})")
_END_OF_JPEG, _END_OF_PNG = b"\xff\xd9", b"IEND\xaeB`\x82"
_RESTORE = "restore it from the data set"


@dataclass(frozen=True, order=True)
class SequenceName:
    """What a folder's name says."""

    subject: int
    action: int
    subaction: int
    camera: int

    @property
    def folder(self) -> str:
        """The folder's name."""
        return f"s_{self.subject:02d}_act_{self.action:02d}_subact_{self.subaction:02d}_ca_{self.camera:02d}"


@dataclass(frozen=True)
class SequenceMeta:
    """Camera and poses of a sequence."""

    camera: Camera
    joints_world_mm: NDArray[np.float64]
    """(F,17,3)"""


def is_sequence(folder: str) -> bool:
    """Whether a folder's name is a sequence's."""
    return _FOLDER.fullmatch(folder) is not None


def parse_folder(path: Path) -> SequenceName:
    """What the name of the folder ``path`` says. Raises DataError when it is no sequence's."""
    match = _FOLDER.fullmatch(path.name)
    if match is None:
        raise DataError(
            path,
            "its name is no sequence's (s_01_act_02_subact_01_ca_01)",
            "rename it, move it out of the data set, or list it in params.yaml: dataset.exclude",
        )
    return SequenceName(*map(int, match.groups()))


def parse_frame(path: Path, folder: str) -> int:
    """Frame number, from 1, of an image or mask in a folder. Raises DataError for another name."""
    match = re.fullmatch(FRAME_PATTERN, path.name)
    if match is None or match["stem"] != folder or int(match["number"]) < 1:
        raise DataError(
            path, f"its name is not {folder}_000001{path.suffix} or on", "rename it or move it away"
        )
    return int(match["number"])


def read_meta(path: Path) -> SequenceMeta:
    """Camera and poses of an ``h36m_meta.mat``, checked.

    ``T`` is the camera's centre; a file that holds ``t`` in its place states x_cam = R X + t and is
    converted. Optional ``k`` (3) and ``p`` (2) are the lens distortion. Raises DataError for a missing
    field, a wrong shape, a number that is not finite, and an ``R`` that is no rotation.
    """
    fields = _load_mat(path)
    joints = _numbers(path, fields, "pose3d_world")
    if joints.ndim != 3 or joints.shape[1:] != (17, 3) or len(joints) == 0:
        raise DataError(path, f"pose3d_world is {joints.shape}, not (frames, 17, 3)", _RESTORE)
    R = _numbers(path, fields, "R", size=9).reshape(3, 3)
    error = rotation_error(R)
    if error > ROTATION_TOLERANCE:
        raise DataError(
            path, f"R is no rotation (off by {error:.2g})", "write R as a 3x3 matrix, world to camera"
        )
    if "T" not in fields and "t" in fields:
        centre = centre_from_translation(R, _numbers(path, fields, "t", size=3))
    else:
        centre = _numbers(path, fields, "T", size=3).reshape(3)
    focal = _numbers(path, fields, "f", size=2).reshape(2)
    width, height = (
        int(_numbers(path, fields, f"img_{side}", size=1).item()) for side in ("width", "height")
    )
    if focal.min() <= 0 or width < 1 or height < 1:
        raise DataError(path, "f, img_width or img_height is not positive", _RESTORE)
    distortion = None
    if "k" in fields or "p" in fields:
        distortion = np.concatenate(
            [_numbers(path, fields, "k", size=3).reshape(3), _numbers(path, fields, "p", size=2).reshape(2)]
        )
    camera = Camera(
        R_world_to_cam=R,
        centre_world_mm=centre,
        focal_px=focal,
        principal_px=_numbers(path, fields, "c", size=2).reshape(2),
        width_px=width,
        height_px=height,
        distortion=distortion,
    )
    if (camera.to_camera(joints[:, 0])[:, 2] <= 0).any():
        raise DataError(
            path,
            "puts the person behind the camera",
            "give the camera's centre as T, or x_cam = R X + t as t",
        )
    return SequenceMeta(camera, joints)


def read_image(path: Path, *, width_px: int | None = None, height_px: int | None = None) -> NDArray[np.uint8]:
    """Image (H,W,3) uint8, RGB. Raises DataError when it is missing, cut short or of another size.

    A size that is None is not checked.
    """
    image = _decode(path, cv2.IMREAD_COLOR)
    _check_size(path, image, width_px, height_px, "restore it, or mend img_width and img_height in its .mat")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_mask(path: Path, *, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Mask (H,W) uint8, 0 or 255; codec noise below and above the middle is removed.

    Raises DataError when it is missing, cut short or of another size than its image.
    """
    mask = _decode(path, cv2.IMREAD_GRAYSCALE)
    _check_size(path, mask, width_px, height_px, "make it as large as its image")
    return np.asarray(255 * (mask > 127), np.uint8)


def _decode(path: Path, flags: int) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        cure = "restore it, or write the manifest and the index again"
        raise DataError(path, f"cannot be read ({error.strerror})", cure) from None
    end, kind = (_END_OF_JPEG, "JPEG") if path.suffix.lower() == ".jpg" else (_END_OF_PNG, "PNG")
    if not data.rstrip(b"\0").endswith(end):
        raise DataError(path, f"is no whole {kind} (its end is missing)", _RESTORE)
    # A camera's orientation tag would turn the pixels away from its calibration.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise DataError(path, f"cannot be decoded as {kind}", _RESTORE)
    return np.asarray(image, np.uint8)


def _check_size(
    path: Path, image: NDArray[np.uint8], width: int | None, height: int | None, cure: str
) -> None:
    found_height, found_width = image.shape[:2]
    if (width or found_width, height or found_height) != (found_width, found_height):
        found = f"{found_width}x{found_height}"
        raise DataError(path, f"is {found} pixels, not {width}x{height}", cure)


def _load_mat(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            return scipy.io.loadmat(file)
    except FileNotFoundError:
        raise DataError(path, "is missing", "put it beside the images or under annotations/") from None
    except NotImplementedError:
        raise DataError(path, "is a MATLAB 7.3 file", "save it with -v7") from None
    except Exception as error:  # scipy's reader checks little: damaged bytes raise whatever they hit
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(path, f"cannot be read as .mat ({reason})", _RESTORE) from error


def _numbers(path: Path, fields: dict[str, np.ndarray], name: str, *, size: int | None = None) -> np.ndarray:
    if name not in fields:
        raise DataError(path, f"has no field {name}", "write it; data/README.md lists the fields")
    try:
        values = np.asarray(fields[name], np.float64)
    except (TypeError, ValueError):
        raise DataError(path, f"{name} does not hold numbers", _RESTORE) from None
    if size is not None and values.size != size:
        raise DataError(path, f"{name} holds {values.size} numbers, not {size}", _RESTORE)
    if not np.isfinite(values).all():
        row = f" in row {np.argwhere(~np.isfinite(values))[0][0] + 1}" if values.ndim == 3 else ""
        raise DataError(
            path, f"{name} holds NaN or infinity{row}", "mend it, or list its folder in dataset.exclude"
        )
    return values
