"""The contact sheet of people: who is on it, how large its file is, what a missing picture says."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from geobody.data.h36m import SequenceName
from geobody.errors import DataError
from geobody.report.people_sheet import (
    MAX_BYTES,
    PICTURE_PX,
    SHARE_OF_IMAGE,
    Pictures,
    actions_sheet,
    bodies_sheet,
    people_sheet,
)

SIZE = 96


def pictures_of(root: Path) -> Pictures:
    return Pictures(root / "images", root / "masks")


def write_set(root: Path, *, subjects: tuple[int, ...], actions: tuple[int, ...]) -> None:
    """Noise with a square of one colour per subject where the mask is, near a corner of the picture."""
    rng = np.random.default_rng(0)
    for subject in subjects:
        for action in actions:
            for camera in range(1, 5):
                name = SequenceName(subject, action, 1, camera).folder
                (root / "images" / name).mkdir(parents=True)
                (root / "masks" / name).mkdir(parents=True)
                image = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
                image[70:90, 5:25] = (0, 0, 255) if subject == 1 else (0, 255, 0)
                mask = np.zeros((SIZE, SIZE), np.uint8)
                mask[70:90, 5:25] = 255
                cv2.imwrite(str(root / "images" / name / f"{name}_000001.jpg"), image)
                cv2.imwrite(str(root / "masks" / name / f"{name}_000001.png"), mask)


def test_each_row_shows_its_subject_and_the_file_stays_small(tmp_path: Path) -> None:
    actions = tuple(range(2, 13))
    write_set(tmp_path, subjects=(1, 9), actions=actions)
    sheet = tmp_path / "sheet.png"
    people_sheet(sheet, pictures_of(tmp_path), subjects=(1, 9), actions=actions, frames=1)
    assert sheet.stat().st_size <= MAX_BYTES
    picture = cv2.imread(str(sheet))
    assert picture.shape[1] > 8 * PICTURE_PX
    half = picture.shape[0] // 2 + 6
    red = (picture[..., 2] > 180) & (picture[..., 1] < 80)
    green = (picture[..., 1] > 180) & (picture[..., 2] < 80)
    # The square has a known share of each picture, which is cut around it although it is at the border.
    expected = 8 * (PICTURE_PX * 20 / (SHARE_OF_IMAGE * SIZE)) ** 2
    assert red[:half].sum() == pytest.approx(expected, rel=0.15)
    assert green[half:].sum() == pytest.approx(expected, rel=0.15)
    assert red[half:].sum() == green[:half].sum() == 0


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, subjects=(1,), actions=(2,))
    name = SequenceName(1, 2, 1, 1).folder
    (tmp_path / "images" / name / f"{name}_000001.jpg").unlink()
    with pytest.raises(DataError, match=rf"{name}_000001.jpg: cannot be read .*; make it again"):
        people_sheet(tmp_path / "sheet.png", pictures_of(tmp_path), subjects=(1,), actions=(2,), frames=1)


def test_sheet_of_actions_has_a_column_for_every_third_subject(tmp_path: Path) -> None:
    write_set(tmp_path, subjects=(1, 5, 6, 9), actions=(2, 3, 4))
    sheet = tmp_path / "sheet.png"
    actions_sheet(sheet, pictures_of(tmp_path), subjects=(1, 5, 6, 9), actions=(2, 3, 4), frames=1)
    picture = cv2.imread(str(sheet))
    red = (picture[..., 2] > 180) & (picture[..., 1] < 80)
    green = (picture[..., 1] > 180) & (picture[..., 2] < 80)
    assert red.sum() == pytest.approx(green.sum(), rel=0.1)
    assert np.nonzero(red)[1].max() < np.nonzero(green)[1].min()


def test_sheet_of_bodies_shows_each_once(tmp_path: Path) -> None:
    write_set(tmp_path, subjects=tuple(range(101, 111)), actions=(2, 3))
    sheet = tmp_path / "sheet.png"
    shown = [(subject, action, 1) for subject in range(101, 111) for action in (2, 3)]
    bodies_sheet(sheet, pictures_of(tmp_path), shown=shown)
    picture = cv2.imread(str(sheet))
    green = (picture[..., 1] > 180) & (picture[..., 2] < 80)
    assert green.sum() == pytest.approx(10 * (PICTURE_PX * 20 / (SHARE_OF_IMAGE * SIZE)) ** 2, rel=0.15)
    bodies_sheet(sheet, pictures_of(tmp_path), shown=[])
    assert (cv2.imread(str(sheet))[:, 40:] == 255).all()
