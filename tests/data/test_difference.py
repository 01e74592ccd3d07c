import numpy as np
import pytest

from geobody.data.difference import difference_mask


@pytest.fixture
def room():
    """A coloured background and a picture of it, 96x96, with noise of 2 grey levels."""
    y, x = np.mgrid[:96, :96]
    background = np.stack([120 + x, 200 - y, 140 + 0 * x], -1).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 2, background.shape)
    return np.clip(background + noise, 0, 255).astype(np.uint8), background


def mask_of(image, background, **changes):
    return difference_mask(image, background, **{"threshold": 8.0, "noise_factor": 4.0, **changes}) > 0


def test_an_empty_room_has_no_foreground(room):
    assert not mask_of(*room).any()


def test_a_person_is_found_to_the_pixel(room):
    image, background = room
    image[20:80, 40:60] = (30, 30, 90)
    person = np.zeros((96, 96), bool)
    person[20:80, 40:60] = True
    found = mask_of(image, background)
    assert (found & person).sum() / (found | person).sum() > 0.9


def test_a_soft_shadow_is_not_taken_for_the_person(room):
    image, background = room
    image[70:90, 10:90] = (0.85 * image[70:90, 10:90]).astype(np.uint8)
    assert not mask_of(image, background).any()
    image[70:90, 10:90] = 0.3 * background[70:90, 10:90]
    assert mask_of(image, background)[72:88, 12:88].all()


def test_specks_and_small_parts_are_dropped_and_gaps_closed(room):
    image, background = room
    image[20:80, 40:60] = 0
    image[50, 40:60] = background[50, 40:60]
    image[10, 10] = image[85, 85] = 0
    image[10:14, 80:84] = 0
    found = mask_of(image, background)
    assert found[50, 42:58].all()
    assert not found[:16, :30].any()
    assert not found[:16, 75:].any()
    assert not found[82:, 82:].any()


def test_noise_raises_the_threshold(room):
    _, background = room
    noisy = background + np.random.default_rng(1).normal(0, 25, background.shape)
    noisy = np.clip(noisy, 0, 255).astype(np.uint8)
    assert mask_of(noisy, background).mean() < 0.02
    assert mask_of(noisy, background, noise_factor=0.0).mean() > 0.2


def test_pixels_outside_the_image_are_never_foreground(room):
    image, background = room
    image[:, 48:] = 0
    valid = np.zeros((96, 96), bool)
    valid[:, :70] = True
    found = mask_of(image, background, valid=valid)
    assert found[10:-10, 52:66].all()
    assert not found[:, 74:].any()
