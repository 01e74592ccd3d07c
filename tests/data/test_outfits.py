"""Who wears what, and that clothes sit where clothes sit."""

import numpy as np
import pytest

from capsule_body import capsule_body
from geobody.conventions import SMPL_JOINTS, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.evaluation_scenes import APART
from geobody.data.outfits import PEOPLE, WARDROBE, Anatomy, Dress, Outfit, Person, outfit_of
from geobody.data.rooms import WALL_COLOURS

SKIN, HAIR, TOP, LEGS, SHOES = (
    (0.9, 0.7, 0.6),
    (0.2, 0.1, 0.05),
    (0.1, 0.2, 0.8),
    (0.1, 0.5, 0.1),
    (0.8, 0.1, 0.1),
)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return capsule_body()


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    """An ordinary adult, in numbers."""
    return Anatomy(
        shoulder_x=0.17, wrist_x=0.66, neck_y=0.54, chin_y=0.59, crown_y=0.79, eye_y=0.688, eye_x=0.033,
        eye_z=0.13, mouth_y=0.61, ear_z=0.02, back_of_head_z=-0.08, waist_y=0.06, crotch_y=-0.08,
        ankle_y=-0.83, floor_y=-0.92, chest_y=0.36, chest_z=-0.03, hip_x=0.11,
        knee_x=0.14, ankle_x=0.17,
    )  # fmt: skip


def dress(anatomy: Anatomy, *, sleeve: float = 0.4, leg: float = 0.5, cut: str = "short") -> Dress:
    return Dress(Person(SKIN, HAIR, cut), Outfit(TOP, (1, 1, 1), "plain", sleeve, LEGS, leg, SHOES), anatomy)


def hue_is(colour: np.ndarray, reference: tuple[float, float, float]) -> bool:
    """Same colour up to brightness: folds, cuffs and hems darken cloth."""
    a, b = colour / np.linalg.norm(colour), np.array(reference) / np.linalg.norm(reference)
    return float(a @ b) > 0.999


@pytest.mark.parametrize(
    ("point", "colour"),
    [
        ((0.0, 0.30, 0.10), TOP),
        ((0.05, 0.30, -0.12), TOP),
        ((0.25, 0.45, 0.04), TOP),
        ((0.50, 0.45, 0.04), SKIN),
        ((0.75, 0.45, 0.01), SKIN),
        ((0.12, -0.20, 0.08), LEGS),
        ((-0.14, -0.65, 0.05), SKIN),
        ((0.17, -0.88, 0.12), SHOES),
        ((0.0, 0.78, 0.0), HAIR),
        ((0.0, 0.70, -0.08), HAIR),
        ((0.01, 0.65, 0.14), SKIN),
    ],
)
def test_what_is_seen_at_a_place(
    anatomy: Anatomy, point: tuple[float, float, float], colour: tuple[float, float, float]
) -> None:
    assert hue_is(dress(anatomy).albedo(np.array([point]))[0], colour)


def test_lengths_of_sleeves_and_trousers(anatomy: Anatomy) -> None:
    along = np.linspace(0.02, 0.95, 40)
    arm = np.column_stack([0.17 + along * 0.49, np.full(40, 0.45), np.zeros(40)])
    shin = np.column_stack([np.full(40, 0.15), -0.08 - along * 0.75, np.zeros(40)])
    for length in (0.3, 0.7):
        clothed = dress(anatomy, sleeve=length, leg=length)
        is_top = np.array([hue_is(c, TOP) for c in clothed.albedo(arm)])
        is_legs = np.array([hue_is(c, LEGS) for c in clothed.albedo(shin)])
        assert np.abs(is_top.mean() - length) < 0.06
        assert np.abs(is_legs.mean() - length) < 0.06


def test_face_has_two_eyes_and_the_back_of_the_head_none(anatomy: Anatomy) -> None:
    eyes = np.array([[0.033, 0.688, 0.13], [-0.033, 0.688, 0.13]])
    person = dress(anatomy, cut="bald")
    assert (person.albedo(eyes).sum(1) < 0.5).all()
    behind = eyes * np.array([1, 1, -0.6])
    assert (person.albedo(behind).sum(1) > 0.5).sum() + (person.albedo(behind)[:, 2] < 0.06).sum() == 2


def test_colours_are_colours_everywhere(arrays: dict[str, np.ndarray]) -> None:
    measured = Anatomy.of(arrays["v_template"], arrays["J_regressor"], arrays["landmarks"])
    for subject, outfits in WARDROBE.items():
        for outfit in outfits:
            clothed = Dress(PEOPLE[subject], outfit, measured)
            colours = clothed.albedo(arrays["v_template"])
            assert np.isfinite(colours).all()
            assert colours.min() >= 0
            assert colours.max() <= 1.25
            offsets = clothed.offsets_m(arrays["v_template"])
            assert offsets.min() >= 0
            assert offsets.max() < 0.03


def test_anatomy_is_measured_in_the_right_order(arrays: dict[str, np.ndarray]) -> None:
    joints = dict(zip(SMPL_JOINTS, arrays["J_regressor"] @ arrays["v_template"], strict=True))
    a = Anatomy.of(arrays["v_template"], arrays["J_regressor"], arrays["landmarks"])
    assert a.floor_y < a.ankle_y < a.crotch_y < a.waist_y < a.chest_y < a.neck_y < a.crown_y
    assert 0 < a.shoulder_x < a.wrist_x
    assert a.wrist_x == pytest.approx(joints["left_wrist"][0])


@pytest.mark.parametrize("place", ["top", "legs", "shoes"])
def test_test_subjects_wear_what_no_training_subject_wears(place: str) -> None:
    """Nor anything near it: the main colours of chest, legs and feet."""
    trained = np.array([getattr(o, place) for s in TRAIN_SUBJECTS for o in WARDROBE[s]])
    for subject in TEST_SUBJECTS:
        for outfit in WARDROBE[subject]:
            nearest = np.linalg.norm(trained - getattr(outfit, place), axis=1).min()
            assert nearest > APART, (subject, outfit)


def test_every_subject_uses_the_whole_wardrobe() -> None:
    for subject, outfits in WARDROBE.items():
        assert {outfit_of(subject, action) for action in range(2, 17)} == set(outfits)


def test_nobody_is_camouflaged() -> None:
    """Main colours keep away from all walls, in light as in shade: distance of chromaticity or brightness."""
    walls = np.array(WALL_COLOURS)
    for outfits in WARDROBE.values():
        for outfit in outfits:
            contrast = np.linalg.norm(walls - np.array(outfit.top), axis=1).min()
            lower = np.linalg.norm(walls - np.array(outfit.legs), axis=1).min()
            assert max(contrast, lower) > 0.45, outfit
            assert min(contrast, lower) > 0.18, outfit
