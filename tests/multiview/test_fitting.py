import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.metrics import mpjpe
from geobody.multiview.fitting import FitRecipe, fit_skeletons, meeting_points, small_masks
from geobody.multiview.fusion import fuse_views, to_crops, to_world
from geobody.multiview.limbs import draw_limbs, fit_radii, silhouette_loss


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> CropShards:
    """Limbs of constant width in pixels, seen by four cameras in a circle."""
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("fits") / "crops", frames=6))


def placed(shards: CropShards, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(shards.table["joints_mm"][rows] + shards.root_crop_mm(rows)[:, None]).float()


def focal(shards: CropShards, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(shards.table["focal_px"][rows]).float()


def test_fitted_radii_draw_the_masks(shards: CropShards) -> None:
    rows = shards.rows(subjects=[1])
    masks = small_masks(shards.masks[rows])
    radii = fit_radii(placed(shards, rows), masks, focal(shards, rows))
    others = shards.rows(subjects=[5])
    drawn = draw_limbs(placed(shards, others), radii, focal(shards, others), size_px=32)
    true = small_masks(shards.masks[others])
    inside, outside = drawn[true > 0.9].mean(), drawn[true < 0.1].mean()
    assert inside > 0.6  # limbs two pixels wide with edges of one: 0.73 in their middle
    assert outside < 0.2
    shifted = placed(shards, others) + torch.tensor([300.0, 0, 0])
    moved = draw_limbs(shifted, radii, focal(shards, others), size_px=32)
    assert silhouette_loss(moved, true).mean() > 1.5 * silhouette_loss(drawn, true).mean()


def test_gradients_are_those_of_finite_differences(shards: CropShards) -> None:
    rows = shards.rows(subjects=[1])[:3]
    joints = placed(shards, rows).double()
    radii = torch.full((20,), 4.0, dtype=torch.float64)
    masks = small_masks(shards.masks[rows]).double()

    def loss(points: torch.Tensor) -> torch.Tensor:
        return silhouette_loss(
            draw_limbs(points, radii, focal(shards, rows).double(), size_px=32), masks
        ).sum()

    moved = joints.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(moved), moved)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(joints.shape, generator=generator, dtype=torch.float64)
        numeric = (loss(joints + 1e-3 * direction) - loss(joints - 1e-3 * direction)) / 2e-3
        assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=2e-2, abs=1e-5)


def test_the_axes_of_root_centred_crops_meet_in_the_root(shards: CropShards) -> None:
    views = shards.views(subjects=[5])
    found = meeting_points(shards.table["centre_world_mm"][views], shards.table["R_world_to_crop"][views])
    np.testing.assert_allclose(found, shards.root_crop_mm(views), atol=1e-3)


def test_silhouettes_bring_wrong_predictions_nearer_to_the_truth(shards: CropShards) -> None:
    rows = shards.rows(subjects=[1])
    radii = fit_radii(placed(shards, rows), small_masks(shards.masks[rows]), focal(shards, rows))
    views = shards.views(subjects=[5])
    R = torch.from_numpy(shards.table["R_world_to_crop"][views]).float()
    true = to_world(torch.from_numpy(shards.table["joints_mm"][views]).float(), R)[:, 0]
    generator = torch.Generator().manual_seed(0)
    error = 80 * torch.randn(
        true.shape, generator=generator
    )  # the same from all sides: fusing cannot mend it
    predicted = to_crops(true + error - error[:, :1], R)
    centres = meeting_points(shards.table["centre_world_mm"][views], shards.table["R_world_to_crop"][views])

    def fit(recipe: FitRecipe) -> np.ndarray:
        found = fit_skeletons(
            predicted,
            R_world_to_crop=R,
            centre_crop_mm=torch.from_numpy(centres).float(),
            focal_px=focal(shards, views.ravel()).view(views.shape),
            masks=small_masks(shards.masks[views.ravel()]).view(*views.shape, 32, 32),
            log_radii=radii,
            recipe=recipe,
        )
        from_root = to_world(found - found[:, :, :1], R)  # one skeleton, seen from all sides
        torch.testing.assert_close(from_root, from_root[:, :1].expand_as(from_root), atol=1e-2, rtol=0)
        return from_root[:, 0].numpy()

    unfitted = fit(FitRecipe(steps=0))
    torch.testing.assert_close(torch.from_numpy(unfitted), fuse_views(predicted, R), atol=1e-2, rtol=0)
    before, after = mpjpe(unfitted, true.numpy()).mean(), mpjpe(fit(FitRecipe()), true.numpy()).mean()
    assert after < 0.8 * before
