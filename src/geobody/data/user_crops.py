"""Crops of a user's images, calibrated or not: around a box, around a mask, or the whole image.

A network sees people as large as its training crops show them, 2 m to a side. A box or a mask around
somebody tells that only by a guess: its longer side is taken for ``mask_box_mm``, as the stage ``crops``
does with ``centre: mask``, and the focal length with it gives the distance. A whole image is a crop already.

A network that was trained on crops around the root wants the root in the middle. The mean of a mask's pixels
is nearer to it than the middle of the mask's box, which a stretched arm moves; a crop that is cut around the root
that networks found in the first one is nearer still (`geobody.recentring`).
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from geobody.conventions import CROP_SIDE_MM
from geobody.data.cropping import CropSettings, Warp, oversampling, virtual_camera
from geobody.errors import ParamsError
from geobody.geometry.cameras import Camera, VirtualCamera, look_at

CropFrom = Literal["box", "mask", "whole"]
WAYS: Final[tuple[str, ...]] = get_args(CropFrom)

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the image."""

WHOLE_DEPTH_MM: Final = 4500.0
"""How far the person of a whole image stands if no focal length says: as in Human3.6M's rooms."""

_LARGEST_MASK = 255


@dataclass(frozen=True)
class UserCrop:
    """A crop and how it came about.

    ``image`` (S,S,3) uint8 RGB; ``mask`` (S,S) uint8 or None; ``camera`` is the image's, with its frame as
    the world; ``virtual`` is the crop's. ``root_found``: cut around a root, not by a box, a mask or as it was.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    camera: Camera
    virtual: VirtualCamera
    root_found: bool = False

    @property
    def root_mm(self) -> NDArray[np.float64]:
        """Where the crop takes the person's root to be (3,), in the image's camera frame."""
        return self.virtual.R_cam_to_crop.T @ [0.0, 0.0, self.virtual.depth_mm]


@dataclass(frozen=True)
class Request:
    """One image (H,W,3) uint8 RGB and what is known of it.

    ``way`` says which part is cropped; ``box`` is x, y, width, height in pixels of the image, ``mask``
    (H,W) uint8 or bool. ``camera`` is the image's where it is calibrated; else one is assumed that looks through
    its middle, with ``focal_px``, or with `focal_length`: give one of the two at most. ``name`` stands in errors.
    """

    image: NDArray[np.uint8]
    name: str
    way: CropFrom
    box: Box | None = None
    mask: NDArray | None = None
    focal_px: float | None = None
    camera: Camera | None = None


def focal_length(way: CropFrom, *, width_px: int, height_px: int) -> float:
    """The focal length that is assumed where none is given, px.

    The image's diagonal, which makes it a view of 53 degrees from corner to corner; for a whole image, which
    is a crop, the length with which 2 m at ``WHOLE_DEPTH_MM`` fill it.
    """
    if way == "whole":
        return width_px * WHOLE_DEPTH_MM / CROP_SIDE_MM
    return float(np.hypot(width_px, height_px))


def cut(
    request: Request, *, crop_size_px: int, mask_box_mm: float, centred_on: Literal["root", "mask"]
) -> UserCrop:
    """The crop that a request asks for. Raises ParamsError for a box, mask or image that does not serve.

    ``centred_on`` is ``crops.centre`` of the networks' training: with "mask" a mask's crop is made as theirs.
    """
    height, width = check_image(request.image, request.name)
    mask = None if request.mask is None else _as_mask(request.mask, request.name, width, height)
    camera = request.camera or _assumed_camera(request, width=width, height=height)
    if request.way == "whole":
        check_square(width, height, request.name)
        depth = float(camera.focal_px[0]) * CROP_SIDE_MM / width
        virtual = VirtualCamera(np.eye(3), depth, crop_size_px)
    else:
        virtual = virtual_camera(
            camera,
            root_cam_mm=np.zeros(3),
            mask=_centre(request, mask, width, height),
            roll_rad=0.0,
            settings=CropSettings(
                size_px=crop_size_px, centre="mask", mask_box_mm=mask_box_mm, roll_std_deg=0.0, seed=0,
                difference_threshold=0.0, difference_noise_factor=0.0,
            ),
        )  # fmt: skip
        if request.way == "mask" and mask is not None and centred_on == "root":
            middle = [float(places.mean()) for places in np.nonzero(mask)[::-1]]
            virtual = VirtualCamera(look_at(camera.rays(middle)), virtual.depth_mm, crop_size_px)
    return cut_out(request.image, mask, camera=camera, virtual=virtual)


def cut_around(request: Request, root_mm: NDArray[np.float64], crop: UserCrop) -> UserCrop:
    """Another crop of a request's image than ``crop``: around the root (3,), mm, in the frame of its camera."""
    mask = None if request.mask is None else _as_mask(request.mask, request.name, *request.image.shape[1::-1])
    virtual = VirtualCamera(look_at(root_mm), float(np.linalg.norm(root_mm)), crop.virtual.crop_size_px)
    cut = cut_out(request.image, mask, camera=crop.camera, virtual=virtual)
    return replace(cut, root_found=True)


def shows(request: Request, camera: Camera, point_mm: NDArray[np.float64]) -> bool:
    """Whether a point (3,), mm, in the frame of the image's ``camera`` lies within the request's box, or its mask's."""
    height, width = request.image.shape[:2]
    if request.way == "mask" and request.mask is not None:
        x, y, across, down = cv2.boundingRect(_as_mask(request.mask, request.name, width, height))
        left, right, top, bottom = x, x + across - 1, y, y + down - 1
    elif request.box is not None:
        left, right, top, bottom = check_box(request.box, width=width, height=height, name=request.name)
    else:
        return False
    u, v = camera.project_camera(point_mm)
    return bool(point_mm[2] > 0 and left <= u <= right and top <= v <= bottom)


def cut_out(
    image: NDArray[np.uint8], mask: NDArray[np.uint8] | None, *, camera: Camera, virtual: VirtualCamera
) -> UserCrop:
    """What ``virtual`` sees of an image (H,W,3) and its mask (H,W), sampled as the stage ``crops`` does."""
    samples = oversampling(camera, virtual)
    warp = Warp(camera, virtual, samples=samples)

    def averaged(big: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if samples == 1:
            return big
        size = (virtual.crop_size_px, virtual.crop_size_px)
        return np.asarray(cv2.resize(big, size, interpolation=cv2.INTER_AREA), np.uint8)

    return UserCrop(
        image=averaged(warp(image, outside="replicate")),
        mask=None if mask is None else averaged(warp(mask, outside="zero")),
        camera=camera,
        virtual=virtual,
    )


def check_image(image: NDArray, name: str) -> tuple[int, int]:
    """Height and width of an RGB image. Raises ParamsError for another kind of array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ParamsError(f"{name}: is {found}: an image is uint8 (height, width, 3), RGB")
    height, width = image.shape[:2]
    if not height or not width:
        raise ParamsError(f"{name}: has no pixels")
    return height, width


def check_square(width: int, height: int, name: str) -> None:
    """Raises ParamsError where a whole image could be no crop."""
    if width != height:
        raise ParamsError(
            f"{name}: is {width}x{height} pixels: a whole image is taken for a crop, which is square; "
            "give a box or a mask of the person"
        )


def check_given(way: CropFrom, *, box: object, mask: object, name: str) -> None:
    """Raises ParamsError where what the image ``name`` is to be cropped by is None."""
    if way == "box" and box is None:
        raise ParamsError(f"{name}: has no box to be cropped by; give one, or a mask")
    if way == "mask" and mask is None:
        raise ParamsError(f"{name}: has no mask to be cropped by; give one, or a box")


def check_box(box: tuple[float, ...], *, width: int, height: int, name: str) -> tuple[int, int, int, int]:
    """First and last column, first and last row of the box's pixels, cut at the image's border.

    Raises ParamsError for a box that is empty or lies outside the image.
    """
    said = f"{name}: box {' '.join(f'{value:g}' for value in box)}"
    if len(box) != 4 or not np.isfinite(box).all() or box[2] <= 0 or box[3] <= 0:
        raise ParamsError(f"{said}: a box is x, y, width, height in pixels, the last two positive")
    left, top = max(round(box[0]), 0), max(round(box[1]), 0)
    right, bottom = min(round(box[0] + box[2]), width), min(round(box[1] + box[3]), height)
    if left >= right or top >= bottom:
        raise ParamsError(f"{said}: lies outside the image, which is {width}x{height} pixels")
    return left, right - 1, top, bottom - 1


def _assumed_camera(request: Request, *, width: int, height: int) -> Camera:
    if request.focal_px is not None and not 0 < request.focal_px < np.inf:
        raise ParamsError(
            f"{request.name}: focal length {request.focal_px:g} px: must be positive and finite"
        )
    focal = request.focal_px or focal_length(request.way, width_px=width, height_px=height)
    return Camera(
        R_world_to_cam=np.eye(3),
        centre_world_mm=np.zeros(3),
        focal_px=np.array([focal, focal]),
        principal_px=np.array([(width - 1) / 2, (height - 1) / 2]),
        width_px=width,
        height_px=height,
    )


def _centre(request: Request, mask: NDArray[np.uint8] | None, width: int, height: int) -> NDArray[np.uint8]:
    """A mask (H,W) with the box that the crop is to be centred on."""
    check_given(request.way, box=request.box, mask=mask, name=request.name)
    if request.way == "mask" and mask is not None:
        return mask
    assert request.box is not None
    left, right, top, bottom = check_box(request.box, width=width, height=height, name=request.name)
    filled = np.zeros((height, width), np.uint8)
    filled[top : bottom + 1, left : right + 1] = _LARGEST_MASK
    return filled


def _as_mask(mask: NDArray, name: str, width: int, height: int) -> NDArray[np.uint8]:
    mask = np.asarray(mask)
    if mask.shape != (height, width) or mask.dtype not in (np.uint8, np.bool_):
        found = f"{mask.dtype} {mask.shape}"
        raise ParamsError(f"{name}: its mask is {found}, not uint8 or bool ({height}, {width}) as the image")
    covered = mask if mask.dtype == np.bool_ else mask > _LARGEST_MASK // 2
    if not covered.any():
        raise ParamsError(f"{name}: its mask shows nobody; give one that is white where the person is")
    return np.where(covered, np.uint8(_LARGEST_MASK), np.uint8(0))
