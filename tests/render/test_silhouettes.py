"""Silhouettes: values are coverage, gradients are those of a finely sampled raster, backends agree."""

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix

from capsule_body import capsule_body
from geobody.body.model import BodyModel
from geobody.conventions import N_BETAS, SMPL_JOINTS
from geobody.errors import ParamsError
from geobody.models.regressor import BodyParams, pose_body
from geobody.render.silhouettes import SilhouetteRenderer, face_neighbours, project_px, silhouettes
from tools.compare_backends import compare

SIZE = 32
DEPTH_MM = 4500.0
FOCAL_PX = SIZE * DEPTH_MM / 2000
STEPS = torch.tensor([8.0, 8.0, 8.0, 0.03, 0.03, 0.03], dtype=torch.float64)
"""Central differences over 8 mm and 0.03 radian: many samples of the fine raster change."""

ANGLES = (
    ("left_shoulder", 1), ("right_shoulder", 2), ("left_elbow", 1), ("right_elbow", 2),
    ("left_hip", 2), ("right_hip", 0), ("left_knee", 0), ("right_knee", 0),
)  # fmt: skip
"""Joints, and the component (x, y, z) of their axis-angle value that changes."""
ANGLE_STEP = torch.full((len(ANGLES),), 0.05, dtype=torch.float64)
"""Radian: hands and feet move by 20 to 45 mm."""
POSE_SUPERSAMPLE = 6
"""At SIZE the fine grid of the pipeline, which draws 64 px three times finer: forearms are some seven samples wide."""


def ellipsoid(radii_mm: tuple[float, float, float], rings: int = 12, segments: int = 18):
    """Vertices (V,3) and outward faces (F,3) of a closed ellipsoid."""
    polar = np.pi * np.arange(1, rings) / rings
    around = 2 * np.pi * np.arange(segments) / segments
    body = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.cos(polar), np.ones(segments)),
            np.outer(np.sin(polar), np.sin(around)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([[[0, 1, 0]], body, [[0, -1, 0]]]) * radii_mm
    faces = []
    last = len(vertices) - 1
    for s in range(segments):
        t = (s + 1) % segments
        faces += [(0, 1 + t, 1 + s), (last, last - segments + s, last - segments + t)]
        for r in range(rings - 2):
            a, b = 1 + r * segments, 1 + (r + 1) * segments
            faces += [(a + s, a + t, b + t), (a + s, b + t, b + s)]
    return vertices, np.array(faces)


def figure():
    """Three ellipsoids, trunk, head and a limb held out: vertices (V,3) mm and faces (F,3)."""
    parts = [((150, 330, 110), (0, 0, 0)), ((90, 120, 100), (20, -430, 0)), ((280, 60, 60), (330, -120, 120))]
    vertices, faces, count = [], [], 0
    for radii, centre in parts:
        v, f = ellipsoid(radii)
        vertices.append(v + np.array(centre))
        faces.append(f + count)
        count += len(v)
    return torch.from_numpy(np.concatenate(vertices)), np.concatenate(faces)


def placed(vertices: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """(B,V,3): turned by moves[:, 3:] (axis-angle) and shifted by moves[:, :3] mm, at 4.5 m."""
    turned = vertices @ axis_angle_to_matrix(moves[:, 3:]).transpose(1, 2)
    return turned + moves[:, None, :3] + torch.tensor([0, 0, DEPTH_MM])


def posed(body: BodyModel, theta: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """(B,V,3) mm: bodies of axis-angle values theta (B,24,3) with angles (B,len(ANGLES)) added, at 4.5 m."""
    change = torch.zeros_like(theta)
    for i, (name, component) in enumerate(ANGLES):
        change[:, SMPL_JOINTS.index(name), component] = angles[:, i]
    rotations = axis_angle_to_matrix(theta + change)
    upright = torch.diag(theta.new_tensor([1, -1, -1]))
    rotations = torch.cat((upright @ rotations[:, :1], rotations[:, 1:]), 1)
    vertices = pose_body(body, BodyParams(rotations, theta.new_zeros(len(theta), N_BETAS))).vertices_mm
    return vertices + torch.tensor([0, 0, DEPTH_MM])


def sampled(vertices: torch.Tensor, faces: np.ndarray, samples: int) -> torch.Tensor:
    """Coverage (B,S,S) by testing samples against every triangle: slow, and independent of the code."""
    fine = SIZE * samples
    grid = (np.arange(fine) + 0.5) / samples - 0.5
    out = []
    for points in vertices.numpy():
        xy = FOCAL_PX * points[:, :2] / points[:, 2:] + (SIZE - 1) / 2
        covered = np.zeros((fine, fine), bool)
        for a, b, c in xy[faces]:
            low = np.searchsorted(grid, np.minimum(np.minimum(a, b), c))
            high = np.searchsorted(grid, np.maximum(np.maximum(a, b), c), side="right")
            x, y = np.meshgrid(grid[low[0] : high[0]], grid[low[1] : high[1]])
            edges = ((a, b), (b, c), (c, a))
            sides = [(q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]) for p, q in edges]
            inside = np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)
            covered[low[1] : high[1], low[0] : high[0]] |= inside
        out.append(covered.reshape(SIZE, samples, SIZE, samples).mean((1, 3)))
    return torch.from_numpy(np.stack(out))


def measures(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B,4): area, centroid x and y, overlap with a target."""
    y, x = torch.meshgrid(*[torch.arange(SIZE, dtype=image.dtype)] * 2, indexing="ij")
    area = image.sum((1, 2))
    mean_x, mean_y = ((image * grid).sum((1, 2)) / area for grid in (x, y))
    return torch.stack((area, mean_x, mean_y, (image * target).sum((1, 2))), dim=1)


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(3)
    moves = torch.from_numpy(np.concatenate([rng.normal(0, 80, (4, 3)), rng.normal(0, 0.7, (4, 3))], axis=1))
    nudge = torch.from_numpy(np.concatenate([rng.normal(0, 70, (4, 3)), rng.normal(0, 0.2, (4, 3))], axis=1))
    vertices, faces = figure()
    return vertices, faces, moves, sampled(placed(vertices, moves + nudge), faces, 8)


Place = Callable[[torch.Tensor], torch.Tensor]
"""Vertices (B,V,3) of values (B,K)."""


def slopes(place: Place, faces: np.ndarray, at: torch.Tensor, target: torch.Tensor, **drawn) -> torch.Tensor:
    """(B,4,K): the gradient of each measure in the values, at ``at`` (B,K)."""
    at = at.clone().requires_grad_(True)
    focal = torch.full((len(at),), FOCAL_PX, dtype=torch.float64)
    found = measures(silhouettes(place(at), faces, focal, SIZE, **drawn), target)
    return torch.stack(
        [torch.autograd.grad(found[:, i].sum(), at, retain_graph=True)[0] for i in range(4)], 1
    )


def differences(
    place: Place, faces: np.ndarray, at: torch.Tensor, target: torch.Tensor, steps: torch.Tensor
) -> torch.Tensor:
    """(B,4,K): the same by central differences of a fine raster over ``steps`` (K,)."""
    expected = []
    for shift in torch.diag(steps):
        ahead, behind = (sampled(place(at + sign * shift), faces, 16) for sign in (1, -1))
        expected.append((measures(ahead, target) - measures(behind, target)) / (2 * shift.sum()))
    return torch.stack(expected, dim=2)


def gradients(cases, backend: str) -> torch.Tensor:
    """(B,4,6): of each measure in translation and orientation."""
    vertices, faces, moves, target = cases
    return slopes(partial(placed, vertices), faces, moves, target, backend=backend)


def test_values_are_the_coverage_of_pixels(cases):
    vertices, faces, moves, _ = cases
    scene = placed(vertices, moves)
    found = silhouettes(scene, faces, torch.full((4,), FOCAL_PX, dtype=torch.float64), SIZE)
    assert found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, sampled(scene, faces, 4))


def test_gradients_match_finite_differences_of_a_fine_raster(cases):
    vertices, faces, moves, target = cases
    wanted = differences(partial(placed, vertices), faces, moves, target, STEPS) * STEPS
    found = gradients(cases, "deodr") * STEPS
    cosine = torch.cosine_similarity(found, wanted, dim=2)
    length = found.norm(dim=2) / wanted.norm(dim=2)
    # Area is the hardest: what the outline gains on one side it loses on the other.
    assert cosine[:, 0].min() > 0.85 and cosine[:, 1:].min() > 0.97, cosine
    assert length.min() > 0.8 and length.max() < 1.25, length


def test_gradients_in_pose_match_finite_differences_of_a_fine_raster():
    g = torch.Generator().manual_seed(0)
    body = BodyModel(arrays=capsule_body(), dtype=torch.float64)
    theta = 0.3 * torch.randn(8, len(SMPL_JOINTS), 3, generator=g, dtype=torch.float64)
    theta[:, 0] = 0
    theta[:, 0, 1] = 2 * torch.pi * torch.rand(len(theta), generator=g, dtype=torch.float64)
    angles = torch.zeros(len(theta), len(ANGLES), dtype=torch.float64)
    nudge = 0.4 * torch.randn(angles.shape, generator=g, dtype=torch.float64)
    place, faces = partial(posed, body, theta), body.faces.numpy()
    target = sampled(place(nudge), faces, 8)
    wanted = differences(place, faces, angles, target, ANGLE_STEP)
    found = slopes(place, faces, angles, target, supersample=POSE_SUPERSAMPLE)
    # An outline along the grid's lines fades over one sample or over two, so single bodies are off by more.
    flat, true = (x.transpose(0, 1).flatten(1) for x in (found, wanted))
    cosine = torch.cosine_similarity(flat, true, dim=1)
    assert cosine.min() > 0.93, cosine
    # Too long, if anything: the fade lies outside the outline, and limbs are thin.
    length = flat.norm(dim=1) / true.norm(dim=1)
    assert length.min() > 0.9 and length.max() < 1.35, length
    by_angle = torch.cosine_similarity(found, wanted, dim=0)
    assert by_angle.min() > 0.6, by_angle


def need_compiled(backend: str) -> None:
    if backend == "pytorch3d":
        reason = "PyTorch3D's compiled part does not load here"
        pytest.importorskip("pytorch3d._C", reason=reason, exc_type=ImportError)


def test_backends_agree(cases):
    need_compiled("pytorch3d")
    vertices, faces, moves, _ = cases
    scene, focal = placed(vertices, moves), torch.full((4,), FOCAL_PX, dtype=torch.float64)
    a, b = (silhouettes(scene, faces, focal, SIZE, backend) for backend in ("deodr", "pytorch3d"))
    iou = torch.minimum(a, b).sum((1, 2)) / torch.maximum(a, b).sum((1, 2))
    assert iou.min() > 0.99
    here, there = (gradients(cases, backend) * STEPS for backend in ("deodr", "pytorch3d"))
    cosine = torch.cosine_similarity(here, there, dim=2)
    assert cosine.min() > 0.9, cosine


def test_backends_agree_on_thirty_bodies_in_place_and_pose():
    need_compiled("pytorch3d")
    found = compare(BodyModel(arrays=capsule_body()), count=30, seed=0)
    assert min(found["iou"]) >= 0.99
    assert min(found["translation"]) >= 0.9
    assert np.median(found["pose"]) >= 0.7


def test_pytorch3d_without_its_compiled_part_says_what_serves(cases, monkeypatch):
    vertices, faces, moves, _ = cases
    monkeypatch.delitem(sys.modules, "pytorch3d.renderer.mesh.rasterize_meshes", raising=False)
    monkeypatch.setitem(sys.modules, "pytorch3d.renderer.mesh.rasterize_meshes", None)
    with pytest.raises(ParamsError, match=r"^params\.yaml: smpl_regressor\.backend: .*deodr") as caught:
        silhouettes(placed(vertices, moves[:1]), faces, torch.tensor([FOCAL_PX]), SIZE, "pytorch3d")
    assert "\n" not in str(caught.value)


def test_the_root_projects_to_the_middle_of_the_crop():
    points = torch.tensor([[[0.0, 0.0, 4500.0], [1000.0, -1000.0, 4500.0]]])
    found = project_px(points, torch.tensor([FOCAL_PX]), size_px=SIZE)
    # 1 m to the right at the root's depth is the crop's edge, half a pixel beyond the last centre.
    assert torch.allclose(found[0], torch.tensor([[15.5, 15.5], [31.5, -0.5]]), atol=1e-4)


@pytest.mark.parametrize("backend", ["deodr", "pytorch3d"])
def test_a_body_behind_the_camera_draws_nothing_and_pulls_nowhere(backend):
    need_compiled(backend)
    vertices, faces = figure()
    two = torch.stack((vertices - torch.tensor([0, 0, DEPTH_MM]), vertices + torch.tensor([0, 0, DEPTH_MM])))
    two.requires_grad_(True)
    focal = torch.full((2,), FOCAL_PX, dtype=torch.float64)
    for behind in (two, two[:1]):
        image = silhouettes(behind, faces, focal[: len(behind)], SIZE, backend)
        assert image[0].sum() == 0
        (gradient,) = torch.autograd.grad(image.sum(), behind)
        assert torch.isfinite(gradient).all() and gradient[0].abs().sum() == 0


def test_faces_that_cross_the_camera_plane_leave_values_and_gradients_finite():
    vertices, faces = figure()
    around = (vertices + torch.tensor([0, 0, 50.0]))[None].requires_grad_(True)
    image = silhouettes(around, faces, torch.tensor([FOCAL_PX], dtype=torch.float64), SIZE)
    image.sum().backward()
    assert image.min() >= 0 and image.max() <= 1 and torch.isfinite(around.grad).all()


def test_each_edge_of_a_closed_mesh_has_the_face_that_runs_back_along_it():
    _, faces = figure()
    across = face_neighbours(faces)
    assert (across >= 0).all()
    for face in range(len(faces)):
        for edge in range(3):
            start, end = faces[face, edge], faces[face, (edge + 1) % 3]
            other = faces[across[face, edge]].tolist()
            assert (end, start) in zip(other, other[1:] + other[:1], strict=True)
    assert face_neighbours(np.array([[0, 1, 2]])).tolist() == [[-1, -1, -1]]


def test_wrong_input_is_refused():
    vertices, faces = figure()
    focal = torch.tensor([FOCAL_PX], dtype=torch.float64)
    renderer = SilhouetteRenderer(faces=faces, size_px=SIZE)
    with pytest.raises(ValueError, match=r"\(B,V,3\)"):
        renderer(vertices, focal)
    with pytest.raises(ValueError, match="NaN"):
        renderer(torch.full_like(vertices, torch.nan)[None], focal)
    with pytest.raises(ValueError, match="backend"):
        SilhouetteRenderer(faces=faces, size_px=SIZE, backend="cairo")
