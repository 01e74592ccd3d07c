"""The numbers of ``metrics/eval.json``, from predictions alone (method.md, section 6).

Every test image counts once; beside each plain mean stands the mean over actions
(``_action_mean``). ``_16`` averages the joints without the root, ``_17`` with it. Sections named
``evaluation`` are of the bodies for evaluation alone, in no other figure: shape errors over two test
subjects would say little.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from geobody.body.model import BodyModel
from geobody.conventions import AWAY_DEG, H36M_ACTIONS, H36M_JOINTS, MM_PER_M
from geobody.metrics import (
    geodesic_deg,
    joint_errors,
    means_by_group,
    p_pve,
    pose_metrics,
    pve,
    spread_mm,
    summary,
)
from geobody.models.prior import PosePrior
from geobody.predictions import Predictions

FACING_DEG: Final = 60.0
BATCH: Final = 128

POSES: Final = {
    "pose": "joints_pred_mm",
    "smpl": "smpl_joints_pred_mm",
    "mean_pose": "joints_mean_pose_mm",
    "cnn_s1": "joints_cnn_s1_mm",
    "cnn_all": "joints_cnn_all_mm",
}
"""Who predicts joints, and in which column."""

_SHORT = {"pck_150": "pck150", "pck_auc": "auc"}
_BY_ACTION = ("mpjpe_17_mm", "n_mpjpe_17_mm", "p_mpjpe_17_mm")


def evaluate(
    predictions: Predictions, *, further: Predictions, body: BodyModel, prior: PosePrior
) -> dict[str, Any]:
    """Sections test, pose, controls, smpl and nvs; what needs theta and beta is absent without them.

    ``predictions`` are those of the test images, ``further`` those of the bodies for evaluation alone.
    """
    true, actions = predictions.joints("joints_true_mm"), predictions.columns["action"]
    sections = {
        name: pose_section(predictions.joints(column), true, actions) for name, column in POSES.items()
    }
    smpl = sections.pop("smpl") | body_section(predictions, body=body, prior=prior)
    controls: dict[str, Any] = {name: sections[name] for name in ("mean_pose", "cnn_s1", "cnn_all")}
    if predictions.has_truth:
        errors = body_errors(predictions, "mean_body", body=body)
        controls["mean_body"] = summary(errors, actions)
    sections |= {"smpl": smpl, **controls}
    for name, found in evaluation_sections(further, body=body).items():
        sections.setdefault(name, {})["evaluation"] = found
    return {
        "test": images_section(predictions),
        "pose": sections["pose"],
        "controls": controls,
        "smpl": smpl,
        "nvs": nvs_section(predictions),
    }


def evaluation_sections(further: Predictions, *, body: BodyModel) -> dict[str, dict[str, Any]]:
    """Plain means over the bodies for evaluation alone, by who predicts; empty when there are none.

    Everybody's joint errors, and of the bodies the regressor's ("smpl") and the mean body's vertex errors.
    """
    if not len(further):
        return {}
    columns = further.columns
    moments = np.stack([columns[name] for name in ("subject", "action", "subaction", "frame")], axis=1)
    counts = {
        "images": len(further),
        "bodies": len(np.unique(columns["subject"])),
        "poses": len(np.unique(moments, axis=0)),
    }
    true = further.joints("joints_true_mm")
    found: dict[str, dict[str, Any]] = {}
    for name, column in POSES.items():
        errors = pose_metrics(further.joints(column), true)
        found[name] = counts | {metric: float(errors[metric].mean()) for metric in _BY_ACTION}
    if further.has_truth:
        for name, who in (("smpl", "pred"), ("mean_body", "mean_body")):
            errors = body_errors(further, who, body=body)
            found[name] = found.get(name, counts) | {
                metric: float(values.mean()) for metric, values in errors.items()
            }
    return found


def pose_section(predicted: ArrayLike, true: ArrayLike, actions: NDArray) -> dict[str, Any]:
    """Joint metrics of (N,17,3) mm: means, by action, by joint, and how much predictions vary."""
    per_pose = {_SHORT.get(name, name): values for name, values in pose_metrics(predicted, true).items()}
    by_action: dict[str, dict[str, float]] = {}
    for name in _BY_ACTION:
        for action, value in means_by_group(per_pose[name], actions).items():
            by_action.setdefault(action_name(action), {})[name] = value
    by_joint = joint_errors(predicted, true).mean(axis=0)
    return summary(per_pose, actions) | {
        "spread_mm": spread_mm(predicted),
        "by_action": by_action,
        "by_joint_mpjpe_mm": dict(zip(H36M_JOINTS[1:], by_joint[1:].tolist(), strict=True)),
    }


def body_section(predictions: Predictions, *, body: BodyModel, prior: PosePrior) -> dict[str, Any]:
    """Vertices, orientation, joint rotations, silhouettes and plausibility of the predicted bodies."""
    found: dict[str, Any] = {"implausible_pct": implausible_pct(predictions.rotations("pred"), prior)}
    iou = {name: predictions.columns[f"iou_{name}"] for name in ("input", "others")}
    measured = np.isfinite(iou["input"])
    if measured.any():
        found["iou"] = {name: float(values[measured].mean()) for name, values in iou.items()}
        found["iou"]["images"] = int(measured.sum())
        ceiling = predictions.columns["iou_true_body"][measured]
        if np.isfinite(ceiling).all():  # chairs hide legs, and hair and clothes stand out
            found["iou"]["true_body"] = float(ceiling.mean())
    if not predictions.has_truth:
        return found
    true, predicted = predictions.rotations("true"), predictions.rotations("pred")
    root = geodesic_deg(predicted[:, 0], true[:, 0])
    angle = facing_deg(true[:, 0])
    groups = {"all": angle >= 0, "facing": angle < FACING_DEG, "away": angle > AWAY_DEG}
    found |= summary(body_errors(predictions, "pred", body=body), predictions.columns["action"])
    found["root_deg"] = {name: float(np.median(root[who])) for name, who in groups.items() if who.any()}
    found["root_over_90_pct"] = {
        name: 100 * float((root[who] > 90.0).mean()) for name, who in groups.items() if who.any()
    }
    found["root_images"] = {name: int(who.sum()) for name, who in groups.items()}
    found["joint_rotation_deg"] = float(geodesic_deg(predicted[:, 1:], true[:, 1:]).mean())
    found["implausible_true_pct"] = implausible_pct(true, prior)
    return found


@torch.no_grad()
def body_errors(predictions: Predictions, who: str, *, body: BodyModel) -> dict[str, NDArray[np.float64]]:
    """pve_mm, p_pve_mm and t_pve_mm (N,) of ``who`` ("pred", "mean_body") against the true bodies.

    PVE with SMPL's pelvis joint (0) of both at one place; p_pve after similarity Procrustes; t_pve
    between the bodies in their T-pose, so that the betas alone count.
    """
    pairs = [(predictions.rotations(x), predictions.betas(x)) for x in (who, "true")]
    found: dict[str, list[NDArray]] = {"pve_mm": [], "p_pve_mm": [], "t_pve_mm": []}
    for start in range(0, len(predictions), BATCH):
        rows = slice(start, start + BATCH)
        (posed, pelvis), (true, true_pelvis) = (_pose(body, R[rows], b[rows]) for R, b in pairs)
        flat = np.broadcast_to(np.eye(3), (len(posed), 24, 3, 3))
        (shape, shape_pelvis), (true_shape, true_shape_pelvis) = (
            _pose(body, flat, b[rows]) for _, b in pairs
        )
        found["pve_mm"].append(pve(posed, true, predicted_pelvis=pelvis, true_pelvis=true_pelvis))
        found["p_pve_mm"].append(p_pve(posed, true))
        found["t_pve_mm"].append(
            pve(shape, true_shape, predicted_pelvis=shape_pelvis, true_pelvis=true_shape_pelvis)
        )
    return {name: np.concatenate(parts) for name, parts in found.items()}


def implausible_pct(rotations: NDArray, prior: PosePrior) -> float:
    """Of joint rotations (N,24,3,3), root aside: ``PosePrior.implausible_pct``."""
    return prior.implausible_pct(torch.from_numpy(np.asarray(rotations[:, 1:], dtype=np.float32)))


def facing_deg(root_rotations: NDArray) -> NDArray[np.float64]:
    """Angles (N,), degrees, between the body's forward axis (+z) and the direction to the camera.

    ``root_rotations`` (N,3,3) map the body's frame to the crop's, whose z leads from the camera to
    the person: 0 is a person who looks at the camera, 180 one who looks away.
    """
    return np.degrees(np.arccos(np.clip(-root_rotations[:, 2, 2], -1, 1)))


def nvs_section(predictions: Predictions) -> dict[str, Any]:
    """PSNR (dB) and SSIM of synthesised views, and of the empty background as a control.

    Of an arm that does not draw: no such means, ``images`` 0, and the background's.
    """

    def means(prefix: str) -> dict[str, float]:
        found = {}
        for kind, unit in (("psnr", "_db"), ("ssim", "")):
            for where in ("person", "crop"):
                values = predictions.columns[f"{prefix}_{kind}_{where}{unit}"]
                if np.isfinite(values).any():
                    found[f"{kind}_{where}"] = float(np.nanmean(values))
        return found

    images = int(np.isfinite(predictions.columns["nvs_psnr_crop_db"]).sum())
    return means("nvs") | {"images": images, "background_alone": means("background")}


def images_section(predictions: Predictions) -> dict[str, Any]:
    """What the numbers were measured on: images, subjects, actions, stride, and the poses' own spread."""
    columns = predictions.columns
    sequence = np.stack([columns[name] for name in ("subject", "action", "subaction", "camera")], axis=1)
    order = np.lexsort((columns["frame"], *sequence.T[::-1]))
    same = (sequence[order][1:] == sequence[order][:-1]).all(axis=1)
    steps = np.diff(columns["frame"][order])[same]
    return {
        "images": len(predictions),
        "subjects": " ".join(f"S{s}" for s in np.unique(columns["subject"])),
        "actions": len(np.unique(columns["action"])),
        "cameras": len(np.unique(columns["camera"])),
        "stride_frames": int(np.median(steps)) if len(steps) else 0,
        "spread_mm": spread_mm(predictions.joints("joints_true_mm")),
    }


def action_name(action: int) -> str:
    """Human3.6M's name of an action, or its number where it has none."""
    return H36M_ACTIONS.get(action, f"action_{action:02d}")


def _pose(body: BodyModel, rotations: NDArray, betas: NDArray) -> tuple[NDArray, NDArray]:
    """Vertices (B,V,3) and pelvises (B,3), mm, of bodies whose origin stays where it is."""
    dtype = body.v_template.dtype
    turned, shape = (torch.from_numpy(np.array(x)).to(dtype) for x in (rotations, betas))
    out = body(
        betas=shape,
        body_pose=turned[:, 1:],
        global_orient=turned[:, 0],
        transl=shape.new_zeros(len(shape), 3),
    )
    return MM_PER_M * out.vertices.numpy(), MM_PER_M * out.joints[:, 0].numpy()
