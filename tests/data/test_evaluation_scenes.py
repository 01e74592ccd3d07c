"""Bodies for evaluation: how poses are dealt out, where they stand, and that nobody has met them."""

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from geobody.config import Synth
from geobody.conventions import EVALUATION_SUBJECTS, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.evaluation_scenes import (
    APART,
    BODIES_A_DAY,
    SPREAD_M,
    Scene,
    drawn_outfit,
    drawn_person,
    evaluation_scenes,
    studio_of,
)
from geobody.data.outfits import WARDROBE
from geobody.data.rooms import CAMERA_AZIMUTHS_DEG, WALL_COLOURS
from geobody.data.synthetic import subject_betas

ACTIONS = tuple(range(2, 17))
BODIES = EVALUATION_SUBJECTS[:40]


def deal(bodies: int = 40, poses: int = 400, actions: tuple[int, ...] = ACTIONS) -> list[Scene]:
    return evaluation_scenes(bodies=bodies, poses=poses, actions=actions, seed=0)


def test_poses_are_dealt_evenly_over_bodies_and_actions() -> None:
    scenes = deal()
    assert [scene.subject for scene in scenes] == sorted(10 * list(BODIES))
    assert {count for _, count in Counter(scene.action for scene in scenes).items()} == {26, 27}
    assert len({(s.subject, s.action, s.subaction) for s in scenes}) == 400
    for body in BODIES:
        assert len({s.action for s in scenes if s.subject == body}) == 10
    assert {scene.frames for scene in scenes} == {1}


def test_more_poses_than_actions_become_further_subactions() -> None:
    scenes = deal(bodies=2, poses=9, actions=(3, 9))
    assert Counter(scene.subject for scene in scenes) == {101: 5, 102: 4}
    assert [(s.action, s.subaction) for s in scenes if s.subject == 101] == [
        (3, 1), (9, 1), (3, 2), (9, 2), (3, 3),
    ]  # fmt: skip
    assert deal(bodies=0, poses=0) == []


def test_params_give_every_body_a_pose() -> None:
    Synth(evaluation_bodies=3, evaluation_poses=3)
    Synth(evaluation_bodies=0, evaluation_poses=0)
    for bodies, poses in ((3, 2), (0, 1)):
        with pytest.raises(ValidationError, match="at least evaluation_bodies"):
            Synth(evaluation_bodies=bodies, evaluation_poses=poses)


@pytest.mark.parametrize("axis", [0, 90])
def test_places_of_a_body_lie_side_by_side_for_every_camera(axis: float) -> None:
    angle = np.deg2rad(CAMERA_AZIMUTHS_DEG[0] + axis)
    for body in BODIES:
        places = np.array([scene.place_m for scene in deal() if scene.subject == body])
        across = np.sort(places @ np.array([-np.sin(angle), np.cos(angle)]))
        assert np.abs(across).max() <= SPREAD_M
        assert np.diff(across).min() > 0.5 * 2 * SPREAD_M / 10


def test_they_wear_what_no_training_subject_wears_and_no_camouflage() -> None:
    worn = [outfit for subject in TRAIN_SUBJECTS for outfit in WARDROBE[subject]]
    outfits = [drawn_outfit(body, 0) for body in BODIES]
    for outfit in outfits:
        for other in worn:
            assert np.linalg.norm(np.subtract(outfit.top, other.top)) > APART
            assert np.linalg.norm(np.subtract(outfit.legs, other.legs)) > APART
            assert np.linalg.norm(np.subtract(outfit.shoes, other.shoes)) > APART
        contrast = [
            np.linalg.norm(np.subtract(WALL_COLOURS, c), axis=1).min() for c in (outfit.top, outfit.legs)
        ]
        assert max(contrast) > 0.45
        assert min(contrast) > 0.18
    assert len(set(outfits)) == len(BODIES)
    assert {o.pattern for o in outfits} >= {"plain", "stripes", "checks"}


def test_everybody_is_somebody_else_and_the_same_under_one_seed() -> None:
    subjects = (*TRAIN_SUBJECTS, *TEST_SUBJECTS, *BODIES)
    betas = np.stack([subject_betas(subject, 0) for subject in subjects])
    apart = np.linalg.norm(betas[:, None] - betas, axis=-1) + 9 * np.eye(len(subjects))
    assert apart.min() > 1
    assert np.abs(betas).max() <= 2
    assert betas.std() > 0.9
    assert drawn_person(101, 0) == drawn_person(101, 0)
    assert drawn_outfit(101, 0) == drawn_outfit(101, 0) != drawn_outfit(101, 1)
    assert len({drawn_person(body, 0) for body in BODIES}) > 20


def test_a_day_in_the_studio_is_shared_by_bodies_and_by_no_subject() -> None:
    assert [studio_of(subject) for subject in (*TRAIN_SUBJECTS, *TEST_SUBJECTS)] == [1, 5, 6, 7, 8, 9, 11]
    days = Counter(studio_of(body) for body in BODIES)
    assert days == dict.fromkeys((101, 111, 121, 131), BODIES_A_DAY)
