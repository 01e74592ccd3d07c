import math

import numpy as np
import pytest
import torch

from geobody.data.augmentation import (
    aim_matrices,
    augment,
    draw_colours,
    draw_turns,
    move_images,
    replace_backgrounds,
    roll_images,
    roll_matrices,
    shuffle_backgrounds,
    spoil,
)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def people():
    """Four images of a grey room with a person of two garments, and their masks."""
    images = torch.full((4, 3, 32, 32), 0.5)
    images[:, :, 8:16, 12:20] = torch.tensor([0.8, 0.2, 0.2])[:, None, None]
    images[:, :, 16:28, 12:20] = torch.tensor([0.2, 0.2, 0.7])[:, None, None]
    masks = torch.zeros(4, 1, 32, 32)
    masks[:, :, 8:28, 12:20] = 1
    return images, masks


def test_augmented_images_depend_on_the_generator_alone(people):
    first, second = augment(*people, generator=draws(1)), augment(*people, generator=draws(1))
    assert torch.equal(first, second)
    assert not torch.allclose(first, augment(*people, generator=draws(2)), atol=0.1)
    assert first.min() >= 0 and first.max() <= 1 and first.shape == people[0].shape


def test_strength_zero_changes_nothing(people):
    images, masks = people
    assert torch.equal(augment(images, masks, generator=draws(), strength=0), images)
    change = draw_colours(4, generator=draws(), strength=0)
    torch.testing.assert_close(change.relight(change.recolour(images, masks)), images, atol=2e-4, rtol=0)
    assert torch.equal(spoil(images, generator=draws(), strength=0), images)


def test_stronger_changes_more(people):
    images, masks = people
    weak, strong = (
        torch.stack([augment(images, masks, generator=draws(s), strength=k) - images for s in range(8)])
        for k in (0.2, 1.0)
    )
    assert strong.abs().mean() > 2 * weak.abs().mean() > 0


def test_recolouring_stays_inside_the_mask(people):
    images, masks = people
    changed = draw_colours(4, generator=draws()).recolour(images, masks) != images
    assert not changed[masks.expand_as(images) == 0].any()
    assert changed[masks.expand_as(images) == 1].float().mean() > 0.9


def test_garments_change_differently(people):
    """A global matrix would keep shirt - trousers a fixed linear image of what it was; this must not."""
    images, masks = people
    images, masks = images[:1].expand(200, -1, -1, -1), masks[:1].expand(200, -1, -1, -1)
    change = draw_colours(200, generator=draws())
    shirt, trousers = (change.recolour(images, masks)[:, :, y, 15] for y in (10, 20))
    correlation = np.corrcoef(shirt.mean(1), trousers.mean(1))[0, 1]
    assert correlation < 0.7
    assert min(shirt.std(0).min(), trousers.std(0).min()) > 0.15


def test_a_change_of_colours_is_the_same_in_every_view(people):
    """Garments move between two views; a pixel's new colour depends on its colour, not on its place."""
    images, masks = people
    change = draw_colours(4, generator=draws())
    seen = change.relight(change.recolour(images, masks))
    moved = change.relight(change.recolour(images.roll((3, 5), (2, 3)), masks.roll((3, 5), (2, 3))))
    torch.testing.assert_close(moved, seen.roll((3, 5), (2, 3)), atol=1e-5, rtol=0)


def test_a_change_equals_its_formula_on_one_pixel():
    change = draw_colours(1, generator=draws(4))
    colour = torch.tensor([0.3, 0.6, 0.2])
    distance = (change.anchors[0] - colour).square().sum(-1)
    weights = torch.exp(-distance / 0.02) / torch.exp(-distance / 0.02).sum()
    mixed = sum(
        w * (m @ colour + o) for w, m, o in zip(weights, change.matrices[0], change.offsets[0], strict=True)
    )
    lit = change.light_matrix[0] @ mixed.clamp(0, 1) + change.light_offset[0]
    expected = lit.clamp(1e-4, 1) ** change.gamma[0]
    image = colour.view(1, 3, 1, 1).expand(1, 3, 2, 2)
    result = change.relight(change.recolour(image, torch.ones(1, 1, 2, 2)))[0, :, 1, 1]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)


def test_replaced_background_keeps_the_person(people):
    images, masks = people
    other = torch.rand(4, 3, 32, 32, generator=draws())
    result = replace_backgrounds(images, masks, other)
    inside = masks.expand_as(images) == 1
    assert torch.equal(result[inside], images[inside]) and torch.equal(result[~inside], other[~inside])


def test_shuffled_backgrounds_come_from_the_batch(people):
    images, masks = people
    rooms = torch.arange(4.0).div(4).view(4, 1, 1, 1).expand(4, 3, 32, 32)
    result = shuffle_backgrounds(images, masks, rooms, generator=draws(3), probability=1.0)
    corners = result[:, 0, 0, 0]
    assert sorted(corners.tolist()) == [0, 0.25, 0.5, 0.75] and corners.tolist() != [0, 0.25, 0.5, 0.75]
    kept = shuffle_backgrounds(images, masks, rooms, generator=draws(3), probability=0.0)
    assert torch.equal(kept, images)


def test_quarter_turn_equals_rot90():
    images = torch.rand(2, 3, 17, 17, generator=draws())
    turned = roll_images(images, torch.full((2,), math.pi / 2))
    # A positive roll takes right (+x) to down (+y): clockwise as one sees it.
    torch.testing.assert_close(turned, images.rot90(-1, (2, 3)), atol=1e-4, rtol=0)


def test_rolls_are_rotations_about_the_optical_axis():
    turns = draw_turns(2000, std_deg=15.0, generator=draws())
    assert math.degrees(turns.std()) == pytest.approx(15.0, rel=0.05)
    matrices = roll_matrices(turns)
    torch.testing.assert_close(matrices @ matrices.transpose(1, 2), torch.eye(3).expand(2000, 3, 3))
    torch.testing.assert_close(matrices[:, :, 2], torch.tensor([0.0, 0.0, 1.0]).expand(2000, 3))


def test_a_moved_crop_shows_what_the_turned_camera_sees() -> None:
    """A bright point of a crop lands where the moved crop's own camera projects its direction."""
    size, focal = 65, 150.0
    generator = draws()
    for _ in range(5):
        pixel = torch.randint(24, 40, (2,), generator=generator)
        images = torch.zeros(1, 1, size, size)
        images[0, 0, pixel[1], pixel[0]] = 1.0
        angle, shift = torch.tensor([0.3]), torch.tensor([[4.0, -3.0]])
        zoom = torch.tensor([1.2])
        moved = move_images(images, angles=angle, shift_px=shift, zoom=zoom, padding="zeros")[0, 0]
        ray = torch.tensor([*((pixel - (size - 1) / 2) / focal).tolist(), 1.0])
        turned = (roll_matrices(angle) @ aim_matrices(shift, torch.tensor([focal])))[0] @ ray
        expected = 1.2 * focal * turned[:2] / turned[2] + (size - 1) / 2
        y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        seen = torch.stack([(moved * x).sum(), (moved * y).sum()]) / moved.sum()
        assert (seen - expected).norm() < 0.7  # a crop is moved in its plane: exact at its centre alone


def test_the_new_centre_is_on_the_new_axis() -> None:
    shift, focal = torch.tensor([[12.0, -7.0], [0.0, 0.0]]), torch.tensor([150.0, 90.0])
    ray = torch.cat([shift / focal[:, None], torch.ones(2, 1)], 1)
    seen = (aim_matrices(shift, focal) @ ray[..., None])[..., 0]
    torch.testing.assert_close(seen[:, :2], torch.zeros(2, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(aim_matrices(shift, focal)[1], torch.eye(3))
