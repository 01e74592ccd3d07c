import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.conventions import H36M_JOINTS
from geobody.data.crops import CropShards
from geobody.models.point_fields import cell_centres
from geobody.multiview.fitting import HEAT_RECIPE, fit_skeletons, meeting_points, small_masks
from geobody.multiview.fusion import fuse_views, to_crops, to_world
from geobody.multiview.heat import FLOOR, LIMB_JOINTS, heat_at, log_heat, meet
from geobody.multiview.limbs import fit_radii

SIDE, CROP_PX = 8, 32
WRIST = H36M_JOINTS.index("left_wrist")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> CropShards:
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("heat") / "crops", frames=6))


class Scene:
    """The instants of subject 5: true joints (I,17,3) in world axes, cameras, and where joints are seen."""

    def __init__(self, shards: CropShards) -> None:
        views = shards.views(subjects=[5])
        table = shards.table
        self.R = torch.from_numpy(table["R_world_to_crop"][views]).float()
        self.true = to_world(torch.from_numpy(table["joints_mm"][views]).float(), self.R)[:, 0]
        centres = meeting_points(table["centre_world_mm"][views], table["R_world_to_crop"][views])
        self.centres = torch.from_numpy(centres).float()
        self.focal = torch.from_numpy(table["focal_px"][views]).float()
        self.masks = small_masks(shards.masks[views.ravel()]).view(*views.shape, CROP_PX, CROP_PX)

    def places(self, joints: torch.Tensor) -> torch.Tensor:
        """(I,C,17,2), x and y in [-1,1], of joints (I,17,3) in world axes."""
        placed = to_crops(joints, self.R) + self.centres[:, :, None]
        return self.focal[..., None, None] * placed[..., :2] / placed[..., 2:] * (2.0 / CROP_PX)

    def heat(self, joints: torch.Tensor) -> torch.Tensor:
        """(I,C,17,s,s): normal distributions of three quarters of a cell about where joints are seen."""
        off = (self.places(joints)[..., None, :] - cell_centres(SIDE)).square().sum(-1)
        return (-off / (2 * (0.75 * 2 / SIDE) ** 2)).softmax(-1).unflatten(-1, (SIDE, SIDE))

    def met(self, fused: torch.Tensor, heat: torch.Tensor, *, spread_mm: float = 150.0) -> torch.Tensor:
        return meet(
            fused, log_heat(heat), torch.full(fused.shape[:2], spread_mm),
            R_world_to_crop=self.R, centre_crop_mm=self.centres, focal_px=self.focal, size_px=CROP_PX,
        )  # fmt: skip


def errors(found: torch.Tensor, scene: Scene) -> torch.Tensor:
    return (found - scene.true).norm(dim=-1)


def test_heat_is_read_where_a_point_is_seen() -> None:
    heat = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x, y = cell_centres(SIDE)[19]
    point = torch.stack([x * 1000.0, y * 1000.0, torch.tensor(4000.0)]).view(1, 1, 1, 3)
    found = heat_at(point, heat, torch.full((1, 1), 4.0 * CROP_PX / 2), size_px=CROP_PX)
    assert float(found) == pytest.approx(float(heat.flatten()[19]))
    outside = heat_at(point * torch.tensor([1, 1, 0.2]), heat, torch.full((1, 1), 64.0), size_px=CROP_PX)
    assert float(outside) in heat.flatten().tolist()


def test_limbs_move_to_where_the_maps_of_all_views_meet(shards: CropShards) -> None:
    scene = Scene(shards)
    drawn = torch.randn(scene.true.shape, generator=torch.Generator().manual_seed(0))
    off = 150 * torch.nn.functional.normalize(drawn, dim=-1)
    found = errors(scene.met(scene.true + off, scene.heat(scene.true)), scene)
    assert found[:, list(LIMB_JOINTS)].mean() < 50
    others = [joint for joint in range(17) if joint not in LIMB_JOINTS]
    torch.testing.assert_close(found[:, others], off.norm(dim=-1)[:, others], atol=1e-2, rtol=0)


def test_places_that_only_one_view_sees_a_joint_at_are_passed_over(shards: CropShards) -> None:
    scene = Scene(shards)
    heat = scene.heat(scene.true)
    wrong = torch.stack([heat[:, view].roll(view + 2, -1) for view in range(4)], 1)
    start = scene.true + 100
    assert errors(scene.met(start, 0.5 * (heat + wrong)), scene)[:, WRIST].mean() < 60
    assert errors(scene.met(start, wrong), scene)[:, WRIST].mean() > 80


def test_maps_that_say_nothing_and_views_that_agree_leave_joints_where_they_are(shards: CropShards) -> None:
    scene = Scene(shards)
    start = scene.true + 100
    level = torch.full_like(scene.heat(start), 1 / SIDE**2)
    torch.testing.assert_close(scene.met(start, level), start, atol=1e-2, rtol=0)
    assert (scene.met(start, scene.heat(scene.true), spread_mm=5.0) - start).norm(dim=-1).max() < 30


def test_an_empty_cell_rules_nothing_out() -> None:
    assert log_heat(torch.zeros(1)).exp() == pytest.approx(FLOOR)


def test_heat_maps_bring_fits_nearer_than_silhouettes_alone(shards: CropShards) -> None:
    scene = Scene(shards)
    rows = shards.rows(subjects=[1])
    placed = torch.from_numpy(shards.table["joints_mm"][rows] + shards.root_crop_mm(rows)[:, None]).float()
    focal = torch.from_numpy(shards.table["focal_px"][rows]).float()
    radii = fit_radii(placed, small_masks(shards.masks[rows]), focal)
    seen = to_crops(scene.true, scene.R)
    predicted = seen + 150 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0))
    predicted = predicted - predicted[:, :, :1]

    def fit(heat: torch.Tensor | None) -> float:
        found = fit_skeletons(
            predicted, R_world_to_crop=scene.R, centre_crop_mm=scene.centres, focal_px=scene.focal,
            masks=scene.masks, log_radii=radii, recipe=HEAT_RECIPE, heat=heat,
        )  # fmt: skip
        return float(errors(to_world(found - found[:, :, :1], scene.R)[:, 0], scene).mean())

    without, with_heat = fit(None), fit(scene.heat(scene.true).half())
    assert without < float(errors(fuse_views(predicted, scene.R), scene).mean())
    assert with_heat < 0.8 * without
