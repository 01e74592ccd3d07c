"""Do the two rasterisers agree? Silhouettes and gradients of random bodies through deodr and PyTorch3D.

``python -m tools.compare_backends`` after ``make repro``: bodies of random shape and pose at random places; of each
the IoU of the two masks, and the cosines between the two gradients of the overlap with another body's silhouette: in
the body's place, and in the axis-angle values of its joints.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geobody.body.model import BodyModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

SIZE_PX = 64
DEPTH_MM = 4500.0
SIDE_MM = 2000.0
POSE_RAD, PLACE_MM, NUDGE = 0.25, 60.0, 0.5
"""Deviations of joint angles and places; how far the other body is away, in the same."""


def compare(body: "BodyModel", *, count: int, seed: int) -> dict[str, list[float]]:
    """``iou``, ``translation`` and ``pose`` of each of ``count`` bodies: 1 where the backends agree."""
    import torch
    from pytorch3d.transforms import axis_angle_to_matrix

    from geobody.conventions import N_BETAS, SMPL_JOINTS
    from geobody.models.regressor import BodyParams, pose_body
    from geobody.render.silhouettes import SilhouetteRenderer

    g = torch.Generator().manual_seed(seed)
    faces, focal = body.faces.cpu(), torch.tensor([SIZE_PX * DEPTH_MM / SIDE_MM])
    deodr = SilhouetteRenderer(faces=faces, size_px=SIZE_PX, backend="deodr")
    pytorch3d = SilhouetteRenderer(faces=faces, size_px=SIZE_PX, backend="pytorch3d")
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    found: dict[str, list[float]] = {"iou": [], "translation": [], "pose": []}

    def vertices(theta: torch.Tensor, betas: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        rotations = axis_angle_to_matrix(theta)
        rotations = torch.cat((upright @ rotations[:, :1], rotations[:, 1:]), 1)
        posed = pose_body(body, BodyParams(rotations, betas)).vertices_mm
        return posed + place[:, None] + torch.tensor([0.0, 0.0, DEPTH_MM])

    for _ in range(count):
        theta = POSE_RAD * torch.randn(1, len(SMPL_JOINTS), 3, generator=g)
        theta[:, 0, 1] = 2 * torch.pi * torch.rand(1, generator=g)
        betas = torch.randn(1, N_BETAS, generator=g)
        place = PLACE_MM * torch.randn(1, 3, generator=g)
        other = [x + NUDGE * scale * torch.randn(x.shape, generator=g)
                 for x, scale in ((theta, POSE_RAD), (betas, 1.0), (place, PLACE_MM))]  # fmt: skip
        with torch.no_grad():
            target = deodr(vertices(*other), focal)
        images, slopes = [], []
        for renderer in (deodr, pytorch3d):
            free = [theta.clone().requires_grad_(), place.clone().requires_grad_()]
            image = renderer(vertices(free[0], betas, free[1]), focal)
            slopes.append(torch.autograd.grad((image * target).sum() / image.sum(), free))
            images.append(image.detach())
        found["iou"].append(float(torch.minimum(*images).sum() / torch.maximum(*images).sum()))
        for name, (here, there) in zip(("pose", "translation"), zip(*slopes, strict=True), strict=True):
            found[name].append(float(torch.cosine_similarity(here.flatten(), there.flatten(), dim=0)))
    return found


def main() -> None:
    import numpy as np
    import torch

    from geobody.body.model import BodyModel

    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_backends", description="Compares the rasterisers."
    )
    parser.add_argument("--body", type=Path, default=ROOT / "data/body/open_1723.npz")
    parser.add_argument("--bodies", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name, values in compare(BodyModel.load(given.body), count=given.bodies, seed=0).items():
        print(
            f"{name:<12} least {np.min(values):.3f}   median {np.median(values):.3f}   of {len(values)} bodies"
        )


if __name__ == "__main__":
    main()
