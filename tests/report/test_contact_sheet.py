import cv2
import numpy as np

from geobody.report.contact_sheet import contact_sheet, write_sheet


def picture(level):
    return np.full((20, 30, 3), (level, 0, 255 - level), np.uint8)


def test_pictures_stand_in_rows_and_columns():
    sheet = contact_sheet([[picture(10), picture(20)], [picture(30), picture(40)]])
    assert sheet.shape == (2 * 22, 2 * 32, 3)
    for level, (y, x) in {10: (0, 0), 20: (0, 32), 30: (22, 0), 40: (22, 32)}.items():
        np.testing.assert_array_equal(sheet[y : y + 20, x : x + 30], picture(level))


def test_labels_take_room_of_their_own():
    sheet = contact_sheet([[picture(10)]], column_labels=["top"], row_labels=["left"])
    place = np.argwhere((sheet == picture(10)[0, 0]).all(-1))
    assert len(place) == 600
    top, left = place[0]
    assert (sheet[:top, left:] < 128).any()
    assert (sheet[top:, :left] < 128).any()


def test_a_sheet_is_rgb_repeats_and_stays_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        write_sheet(tmp_path / name, noise, max_bytes=50_000)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert 20_000 < (tmp_path / "a.png").stat().st_size <= 50_000
    write_sheet(tmp_path / "c.png", picture(10))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "c.png"))[..., ::-1], picture(10))
