from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from crop_fixtures import write_fake_shards
from geobody.config import Labels
from geobody.conventions import EVALUATION_SUBJECTS, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.crops import CropShards
from geobody.data.labels import evenly_spread_ranks, report_groups, split_labels
from geobody.errors import ParamsError


def fake_table(*, actions: int = 3, frames: int = 20, cameras: int = 4) -> dict[str, np.ndarray]:
    """Every subject in every action, rows shuffled: an order of rows must not matter."""
    columns = np.array(
        [
            (subject, action, 1, frame, camera)
            for subject in (*TRAIN_SUBJECTS, *TEST_SUBJECTS, EVALUATION_SUBJECTS[0])
            for action in range(2, 2 + actions)
            for frame in range(1, frames + 1)
            for camera in range(1, cameras + 1)
        ]
    )
    instant = np.unique(columns[:, :4], axis=0, return_inverse=True)[1].reshape(-1)
    order = np.random.default_rng(0).permutation(len(columns))
    table = dict(zip(("subject", "action", "subaction", "frame", "camera"), columns[order].T, strict=True))
    table["instant"] = instant[order]
    table["is_train"] = np.isin(table["subject"], TRAIN_SUBJECTS)
    return table


@given(
    small=st.floats(0.01, 1),
    large=st.floats(0.01, 1),
    subjects=st.lists(st.sampled_from(TRAIN_SUBJECTS), min_size=1, max_size=5),
)
def test_fewer_labels_are_a_subset_of_more_and_belong_to_the_labelled_subjects(
    small: float, large: float, subjects: list[int]
) -> None:
    table = fake_table()
    few = split_labels(table, subjects=subjects, fraction=min(small, large))
    many = split_labels(table, subjects=subjects, fraction=max(small, large))
    assert set(few.train) <= set(many.train)
    assert set(table["subject"][few.train]) == set(subjects)
    assert set(table["subject"][few.held_out]) == set(subjects)
    np.testing.assert_array_equal(few.held_out, many.held_out)
    assert not np.isin(many.held_out, many.train).any()


def test_all_views_of_a_labelled_instant_are_labelled() -> None:
    table = fake_table(cameras=4)
    split = split_labels(table, subjects=[5], fraction=0.3)
    for rows in (split.train, split.held_out):
        _, views = np.unique(table["instant"][rows], return_counts=True)
        assert (views == 4).all()


def test_the_fraction_counts_instants_subject_by_subject() -> None:
    table = fake_table(actions=3, frames=20, cameras=4)
    split = split_labels(table, subjects=[1, 8], fraction=0.1, held_out_fraction=0.2)
    for subject in (1, 8):
        of_subject = table["subject"][split.train] == subject
        assert of_subject.sum() == round(0.1 * 3 * 16) * 4


def test_held_out_frames_are_the_last_of_each_sequence() -> None:
    table = fake_table(actions=3, frames=20)
    split = split_labels(table, subjects=[1], held_out_fraction=0.2)
    assert set(table["frame"][split.held_out]) == {17, 18, 19, 20}
    assert set(table["frame"][split.train]) == set(range(1, 17))
    assert set(table["action"][split.held_out]) == {2, 3, 4}


def test_every_sequence_of_two_or_more_instants_gives_one_and_keeps_one() -> None:
    table = fake_table(actions=2, frames=2)
    split = split_labels(table, subjects=[1], held_out_fraction=0.01)
    assert set(table["frame"][split.held_out]) == {2}
    single = split_labels(fake_table(actions=1, frames=1), subjects=[1], held_out_fraction=0.4)
    assert len(single.train) == 4
    assert len(single.held_out) == 0


@pytest.mark.parametrize("subject", TEST_SUBJECTS)
def test_a_test_subject_is_refused_whoever_else_is_named(subject: int) -> None:
    with pytest.raises(ParamsError, match=f"subject {subject} is a test subject") as caught:
        split_labels(fake_table(), subjects=[1, subject])
    assert caught.value.exit_code == 2


def test_a_subject_without_crops_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ParamsError, match="subject 3 has no crops; present are 1, 5, 6"):
        split_labels(fake_table(), subjects=[3])


def test_labels_of_real_shards(tmp_path: Path) -> None:
    shards = CropShards.open(write_fake_shards(tmp_path / "crops", frames=4))
    split = split_labels(shards.table, subjects=[1], held_out_fraction=0.25)
    assert len(split.train) == 2 * 3 * 4
    assert len(split.held_out) == 2 * 1 * 4
    assert set(shards.table["subject"][np.r_[split.train, split.held_out]]) == {1}


@given(count=st.integers(1, 300), share=st.floats(0.05, 1))
def test_every_beginning_of_the_order_is_spread_evenly(count: int, share: float) -> None:
    ranks = evenly_spread_ranks(count)
    assert sorted(ranks) == list(range(count))
    chosen = np.flatnonzero(ranks < max(1, round(share * count)))
    gaps = np.diff(np.r_[-1, chosen, count])
    # Three-gap theorem: no gap exceeds the sum of two smaller ones; golden-ratio gaps stay below 2.7 means.
    assert gaps.max() <= np.ceil(2.7 * count / len(chosen)) + 1


@pytest.mark.parametrize("key", ["subjects", "ceiling_subjects"])
@pytest.mark.parametrize("subjects", [(9,), (1, 11), (), (3,)])
def test_params_cannot_name_a_test_subject(key: str, subjects: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match=key):
        Labels.model_validate({key: list(subjects)})


def test_reports_are_on_the_labelled_and_on_each_other_training_subject_whole(tmp_path: Path) -> None:
    shards = CropShards.open(write_fake_shards(tmp_path / "crops", frames=5))
    split = split_labels(shards.table, subjects=[1, 5], fraction=0.5, held_out_fraction=0.2)
    groups = report_groups(shards.table, split, subjects=[1, 5])
    assert list(groups) == ["labelled_train", "labelled_held_out", "subject_06", "subject_07", "subject_08"]
    assert groups["labelled_train"] is split.train and groups["labelled_held_out"] is split.held_out
    for subject in (6, 7, 8):
        np.testing.assert_array_equal(groups[f"subject_{subject:02d}"], shards.rows(subjects=[subject]))
