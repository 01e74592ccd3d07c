"""A silhouette and its gradient through deodr, beside PyTorch3D's own soft silhouettes on the CPU.

Of the largest body, 13,776 faces, at 128 pixels. PyTorch3D is set up as its tutorial on silhouettes does: a
``MeshRasterizer`` with 50 faces for each pixel and a ``SoftSilhouetteShader``. Goal: 100 times as fast.
"""

from pathlib import Path

import torch
from pytorch3d.renderer import (
    BlendParams,
    FoVPerspectiveCameras,
    MeshRasterizer,
    MeshRenderer,
    RasterizationSettings,
    SoftSilhouetteShader,
    look_at_view_transform,
)
from pytorch3d.structures import Meshes

from geobody.body.model import BodyModel
from geobody.conventions import MM_PER_M
from geobody.render.silhouettes import SilhouetteRenderer
from tools.bench.timing import Comparison, compare

GOAL = 0.01
SIZE_PX = 128
DISTANCE_M = 3.0
SUPERSAMPLE = 3
MOST_REPEATS = 3
"""PyTorch3D's side takes so long that more repeats would teach nothing."""


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares on the body that ``dvc repro`` made."""
    body = BodyModel.load(repository / "data/body/open_6890.npz")
    vertices_m = body.v_template.float()[None]
    faces = body.faces.cpu()
    sigma = BlendParams().sigma
    rotation, translation = look_at_view_transform(dist=DISTANCE_M, device="cpu")
    theirs = MeshRenderer(
        rasterizer=MeshRasterizer(
            cameras=FoVPerspectiveCameras(R=rotation, T=translation, fov=60.0),
            raster_settings=RasterizationSettings(
                image_size=SIZE_PX,
                blur_radius=float(torch.log(torch.tensor(1.0 / 1e-4 - 1.0))) * sigma,
                faces_per_pixel=50,
            ),
        ),
        shader=SoftSilhouetteShader(blend_params=BlendParams(sigma=sigma)),
    )
    ours = SilhouetteRenderer(faces=faces, size_px=SIZE_PX, backend="deodr", supersample=SUPERSAMPLE)
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    placed_mm = MM_PER_M * (vertices_m @ upright + torch.tensor([0.0, 0.0, DISTANCE_M]))
    focal = torch.tensor([SIZE_PX / (2 * torch.tan(torch.deg2rad(torch.tensor(30.0))))])

    def deodr() -> None:
        moved = placed_mm.clone().requires_grad_()
        ours(moved, focal).sum().backward()

    def pytorch3d() -> None:
        moved = vertices_m.clone().requires_grad_()
        theirs(Meshes(verts=moved, faces=faces[None]))[..., 3].sum().backward()

    return compare(
        subject=(f"deodr, {len(faces)} faces, {SIZE_PX} px", deodr),
        reference=("PyTorch3D's soft silhouette on the CPU", pytorch3d),
        repeats=min(repeats, MOST_REPEATS),
        goal=GOAL,
    )
