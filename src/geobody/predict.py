"""Joints, a body and its mesh for people in images: the networks of the pipeline behind one call.

    predictor = Predictor.open()                       # in a repository after `dvc repro`
    found = predictor([image], boxes=[(80, 20, 90, 180)])
    found.joints_mm, found.betas, found.vertices

All that comes out is in the frame of the image's camera: x right, y down, z forward.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geobody.body.model import BodyModel
from geobody.config import Crops, load_params
from geobody.conventions import H36M_JOINTS, H36M_ROOT, MM_PER_M
from geobody.data.user_crops import WAYS, Box, CropFrom, Request, UserCrop, cut, cut_around, shows
from geobody.errors import DataError, ParamsError
from geobody.geometry.axis_angle import to_axis_angle
from geobody.models.arm import EncoderDecoder, Latent
from geobody.models.encoder_decoder import load_encoder_decoder
from geobody.models.folding import fold_batch_norms
from geobody.models.pose_head import PoseHead, apply_pose_head, load_pose_head
from geobody.models.regressor import SmplRegressor, apply_regressor, load_regressor
from geobody.paths import MODELS, STAGES
from geobody.recentring import Roots, find_roots, heat_places

NETWORKS: Final = ("encoder", "pose_head", "smpl_regressor")
PARAMS: Final = "params.yaml"
BATCH: Final = 64
RECENTRINGS: Final = 3
"""How often a crop by a box or a mask is cut anew around the root that is found in it (docs/experiments.md)."""


@dataclass(frozen=True)
class Prediction:
    """What is seen in N images; rotations act on columns, and the root is Human3.6M's hip.

    joints_mm, body_joints_mm (N,17,3): joints relative to the root, by the pose head and on the body.
    global_orient (N,3,3), body_pose (N,23,3,3), betas (N,10), transl (N,3) metres: SMPL's parameters, with which
    a body model gives ``vertices`` (N,V,3), metres. ``faces`` (F,3). Float32, but for ``faces``.
    Where people stand rests on the focal length and on how large the networks, or else the crop, took them to be;
    ``crops`` are those that were seen last, and say of each whether the root was found. ``misplaced`` (N,), bool: the
    person is not where a crop has them (root in the middle, 2 m shown), which makes all of it wrong; False where the
    networks cannot tell.
    """

    joints_mm: NDArray[np.float32]
    body_joints_mm: NDArray[np.float32]
    global_orient: NDArray[np.float32]
    body_pose: NDArray[np.float32]
    betas: NDArray[np.float32]
    transl: NDArray[np.float32]
    vertices: NDArray[np.float32]
    misplaced: NDArray[np.bool_]
    faces: NDArray[np.int64]
    crops: tuple[UserCrop, ...]

    def __len__(self) -> int:
        return len(self.betas)

    @classmethod
    def joined(cls, parts: Sequence["Prediction"]) -> "Prediction":
        """One prediction of at least one: their rows in order."""
        rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS}
        return cls(**rows, faces=parts[0].faces, crops=tuple(crop for part in parts for crop in part.crops))

    def row(self, i: int) -> "Prediction":
        """What is seen in image ``i`` alone."""
        rows = {name: getattr(self, name)[i : i + 1] for name in _ROWS}
        return Prediction(**rows, faces=self.faces, crops=self.crops[i : i + 1])

    @property
    def poses(self) -> NDArray[np.float32]:
        """theta (N,72): axis-angle in radians, the global orientation first."""
        return to_axis_angle(np.concatenate((self.global_orient[:, None], self.body_pose), axis=1))

    @property
    def root_mm(self) -> NDArray[np.float64]:
        """The root (N,3) in the camera's frame."""
        return np.array([crop.root_mm for crop in self.crops]).reshape(-1, 3)


_ROWS: Final = (
    "joints_mm",
    "body_joints_mm",
    "global_orient",
    "body_pose",
    "betas",
    "transl",
    "vertices",
    "misplaced",
)


class Predictor:
    """Encoder, pose head, regressor and body, loaded once; images go in, `Prediction` comes out."""

    def __init__(
        self,
        *,
        network: EncoderDecoder,
        head: PoseHead,
        regressor: SmplRegressor,
        body: BodyModel,
        mask_box_mm: float,
        centred_on: Literal["root", "mask"] = "root",
    ) -> None:
        self.network, self.head, self.regressor, self.body = network.eval(), head, regressor, body
        self._encoder = fold_batch_norms(network)
        self.mask_box_mm, self.centred_on = mask_box_mm, centred_on

    @classmethod
    def open(cls, place: Path | str = ".", *, body: Path | str | None = None) -> "Predictor":
        """The networks in ``place``, and the body file ``body``, or the one that belongs to them.

        ``place`` is a repository in which ``dvc repro`` has run, or a folder with encoder.safetensors,
        pose_head.safetensors, smpl_regressor.safetensors and one body file (.npz). Raises DataError when
        something is missing, broken, or of another network.
        """
        files = find_models(Path(place), body=None if body is None else Path(body))
        predictor = cls(
            network=load_encoder_decoder(files.networks["encoder"]),
            head=load_pose_head(files.networks["pose_head"]),
            regressor=load_regressor(files.networks["smpl_regressor"]),
            body=BodyModel.load(files.body),
            mask_box_mm=files.mask_box_mm,
            centred_on=files.centred_on,
        )
        predictor._try_out(files.networks)
        return predictor

    @property
    def needs_masks(self) -> bool:
        """Whether the encoder was trained on people before black."""
        return self.network.track == "masked"

    def __call__(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        boxes: Sequence[Box] | None = None,
        masks: Sequence[NDArray] | None = None,
        crop: CropFrom | None = None,
        focal_px: float | None = None,
        names: Sequence[str] | None = None,
    ) -> Prediction:
        """The person in each of ``images`` (H,W,3), uint8 RGB, of any sizes.

        ``crop`` says what shows the person: "box" (x, y, width, height), "mask" ((H,W) uint8 or bool) or
        "whole" (a square image that is a crop already); by default the first of them that is given.
        ``focal_px``: see ``geobody.data.user_crops.focal_length``; ``names`` stand in errors. Crops by a box or a mask
        are cut anew around the root (see ``recentred``). Raises ParamsError for a box outside its image, an empty mask,
        counts that differ, or a mask that the encoder lacks.
        """
        way: CropFrom = crop or ("box" if boxes is not None else "mask" if masks is not None else "whole")
        if way not in WAYS:
            raise ParamsError(f"crop {way!r}: one of {', '.join(WAYS)}")
        check_counts(len(images), boxes=boxes, masks=masks, names=names)
        self.check_masks(given=masks is not None)
        requests = [
            Request(
                image=image,
                name=f"image {i}" if names is None else names[i],
                way=way,
                box=None if boxes is None else boxes[i],
                mask=None if masks is None else masks[i],
                focal_px=focal_px,
            )
            for i, image in enumerate(images)
        ]
        return self.predict_requests(requests)

    def predict_requests(self, requests: Sequence[Request]) -> Prediction:
        """The person in each of at least one image, whose camera may be known; see `Request`.

        Raises ParamsError for one that does not serve.
        """
        batches = [requests[i : i + BATCH] for i in range(0, len(requests), BATCH)]
        with ThreadPoolExecutor(max_workers=1) as cutter:  # cuts the next crops while the networks see these
            waiting = [cutter.submit(self.crops_of, batch) for batch in batches]
            try:
                parts = [
                    self.predict_crops(self.recentred(batch, crops.result()))
                    for batch, crops in zip(batches, waiting, strict=True)
                ]
            finally:
                cutter.shutdown(cancel_futures=True)
        return Prediction.joined(parts)

    def crops_of(self, requests: Sequence[Request]) -> list[UserCrop]:
        """The crops as they are first cut."""
        size = self.network.crop_size_px
        return [
            cut(r, crop_size_px=size, mask_box_mm=self.mask_box_mm, centred_on=self.centred_on)
            for r in requests
        ]

    def check_masks(self, *, given: bool) -> None:
        """Raises ParamsError where the encoder needs masks and none are given."""
        if self.needs_masks and not given:
            raise ParamsError(
                "masks: the encoder was trained on people before black (training.track: masked): give the person's "
                "mask with each image, or train it with training.track: rgb"
            )

    def note_on(self, way: CropFrom) -> str | None:
        """What a user should know who crops in this way, if anything."""
        if way == "whole" or self.centred_on == "mask":
            return None
        return (
            f"the networks were trained on crops around the labelled root, a {way} shows only about where that is: "
            "where they find the root, crops are cut anew around it; docs/predict.md says what is left of the cost"
        )

    @torch.inference_mode()
    def recentred(self, requests: Sequence[Request], crops: Sequence[UserCrop]) -> list[UserCrop]:
        """Crops by a box or a mask, cut anew around the root that is found in them, ``RECENTRINGS`` times.

        For networks that were trained on crops around the root. A crop stays as it is where the image is a crop
        already, and where no root is found (see `geobody.recentring`) in the box or in the mask's.
        """
        crops, distances = list(crops), [crop.virtual.depth_mm for crop in crops]
        if self.centred_on == "mask" or all(request.way == "whole" for request in requests):
            return crops
        for _ in range(RECENTRINGS):
            latent = self._encode(crops)
            if latent.heat is None:
                return crops
            joints = apply_pose_head(self.head, latent.points.numpy())
            roots = _roots(joints, latent.heat, crops, depth_mm=distances)
            before = list(crops)
            for i in np.flatnonzero(roots.found).tolist():
                root_mm = crops[i].virtual.R_cam_to_crop.T @ roots.places_mm[i]
                if requests[i].way != "whole" and shows(requests[i], crops[i].camera, root_mm):
                    crops[i] = cut_around(requests[i], root_mm, crops[i])
            if all(crop is old for crop, old in zip(crops, before, strict=True)):
                break  # the same crops would show the same again
        return crops

    @torch.inference_mode()
    def predict_crops(self, crops: Sequence[UserCrop]) -> Prediction:
        """The person in each crop; all of them go through the networks at once."""
        latent = self._encode(crops)
        points, appearance = latent.points.numpy(), latent.appearance.numpy()
        joints = apply_pose_head(self.head, points)
        misplaced = np.zeros(len(crops), np.bool_)
        if latent.heat is not None and self.centred_on == "root":
            distances = [crop.virtual.depth_mm for crop in crops]
            misplaced = _roots(joints, latent.heat, crops, depth_mm=distances).misplaced
        found = apply_regressor(self.regressor, points, appearance)
        rotations, betas = found["rotations"], found["betas"]
        to_camera = np.array([crop.virtual.R_cam_to_crop.T for crop in crops], np.float32).reshape(-1, 3, 3)
        root_m = (np.array([crop.root_mm for crop in crops]) / MM_PER_M).astype(np.float32).reshape(-1, 3)
        global_orient = to_camera @ rotations[:, 0]
        vertices, body_joints = self._pose(global_orient, rotations[:, 1:], betas)
        root = body_joints[:, H36M_ROOT]
        transl = root_m - root
        return Prediction(
            joints_mm=joints @ to_camera.transpose(0, 2, 1),
            body_joints_mm=np.float32(MM_PER_M) * (body_joints - root[:, None]),
            global_orient=global_orient,
            body_pose=rotations[:, 1:],
            betas=betas,
            transl=transl,
            vertices=vertices + transl[:, None],
            misplaced=misplaced,
            faces=self.body.faces.numpy(),
            crops=tuple(crops),
        )

    def _encode(self, crops: Sequence[UserCrop]) -> Latent:
        size = self.network.crop_size_px
        images = np.array([crop.image for crop in crops], np.uint8).reshape(-1, size, size, 3)
        masks = np.array([_mask(crop) for crop in crops], np.uint8).reshape(-1, size, size)
        seen = torch.from_numpy(images).movedim(3, 1).float().div_(255.0)
        mask = torch.from_numpy(masks)[:, None].float().div_(255.0)
        seen = self.network.network_input(seen, mask).contiguous(memory_format=torch.channels_last)
        latent: Latent = self._encoder.encode(seen)
        return latent

    def _pose(self, global_orient: NDArray, body_pose: NDArray, betas: NDArray) -> tuple[NDArray, NDArray]:
        """Vertices (N,V,3) and Human3.6M's joints (N,17,3), metres, of bodies that are not translated."""
        orient, pose, shape = (torch.from_numpy(x) for x in (global_orient, body_pose, betas))
        nowhere = shape.new_zeros(len(shape), 3)
        out = self.body(betas=shape, body_pose=pose, global_orient=orient, transl=nowhere)
        return out.vertices.numpy(), out.joints_h36m.numpy()

    @torch.inference_mode()
    def _try_out(self, files: dict[str, Path]) -> None:
        """Raises DataError unless head and regressor take what the encoder makes."""
        size = self.network.crop_size_px
        blank = torch.zeros(1, 3, size, size).contiguous(memory_format=torch.channels_last)
        latent = self.network.encode(blank)
        points, appearance = latent.points.numpy(), latent.appearance.numpy()
        cure = f"take both from one run of dvc repro; the encoder is {files['encoder']}"
        try:
            name = "pose_head"
            apply_pose_head(self.head, points)
            name = "smpl_regressor"
            apply_regressor(self.regressor, points, appearance)
        except RuntimeError:
            raise DataError(files[name], "takes embeddings of another encoder", cure) from None


@dataclass(frozen=True)
class ModelFiles:
    """Where the networks and the body are, and ``crops.mask_box_mm`` and ``crops.centre`` of their params."""

    networks: dict[str, Path]
    body: Path
    mask_box_mm: float
    centred_on: Literal["root", "mask"]


def find_models(place: Path, *, body: Path | None) -> ModelFiles:
    """The files of a repository or of a folder; raises DataError that names the first one missing."""
    if (place / PARAMS).is_file():
        try:
            params = load_params(place / PARAMS)
        except ParamsError as error:  # which names the file alone
            raise ParamsError(f"{place / PARAMS}{str(error).removeprefix(PARAMS)}") from None
        networks = {name: place / MODELS / f"{name}.safetensors" for name in NETWORKS}
        for name, path in networks.items():
            if not path.is_file():
                raise DataError(path, "is missing", f"make it with: dvc repro {_maker(name)}")
        return ModelFiles(networks, body or place / params.body.model, *_crop_settings(params.crops))
    if not place.is_dir():
        raise DataError(
            place, "is no folder", "name a repository in which dvc repro has run, or a folder of models"
        )
    networks = {name: place / f"{name}.safetensors" for name in NETWORKS}
    for path in networks.values():
        if not path.is_file():
            cure = f"put it there, or name a repository (with {PARAMS}) in which dvc repro has run"
            raise DataError(path, "is missing", cure)
    if body is None:
        bodies = sorted(place.glob("*.npz"))
        if len(bodies) != 1:
            found = "no body file (.npz)" if not bodies else f"{len(bodies)} body files (.npz)"
            raise DataError(place, f"holds {found}", "leave one there, or name it (--body)")
        body = bodies[0]
    return ModelFiles(networks, body, *_crop_settings(Crops()))


def _maker(network: str) -> str:
    """The stage that writes the file of one of ``NETWORKS``."""
    path = f"{MODELS}/{network}.safetensors"
    return next(name for name, spec in STAGES.items() if path in spec.outputs.values())


def _crop_settings(crops: Crops) -> tuple[float, Literal["root", "mask"]]:
    return crops.mask_box_mm, crops.centre


def check_counts(n_images: int, **given: Sequence[object] | None) -> None:
    """Raises ParamsError unless there are images, and one of each of ``given`` for each."""
    if not n_images:
        raise ParamsError("images: none are given; name one at least")
    for what, values in given.items():
        if values is not None and len(values) != n_images:
            raise ParamsError(
                f"{what}: {len(values)} for {n_images} images: give one for each, in their order"
            )


def _roots(
    joints_mm: NDArray, heat: Tensor, crops: Sequence[UserCrop], *, depth_mm: Sequence[float]
) -> Roots:
    """See `find_roots`: where the roots of joints (N,17,3) are in crops with such heat maps."""
    return find_roots(
        joints_mm,
        heat_places(heat[:, : len(H36M_JOINTS)]),
        focal=[crop.virtual.focal_px / crop.virtual.crop_size_px for crop in crops],
        depth_mm=depth_mm,
    )


def _mask(crop: UserCrop) -> NDArray[np.uint8]:
    return np.full(crop.image.shape[:2], 255, np.uint8) if crop.mask is None else crop.mask
