import struct

import cv2
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st

from crop_fixtures import STANDING_MM
from geobody.data.h36m import (
    SequenceName,
    is_sequence,
    parse_folder,
    parse_frame,
    read_image,
    read_mask,
    read_meta,
)
from geobody.errors import DataError
from h36m_tree import camera_of, opencv_project

two_digits = st.integers(0, 99)


@given(st.integers(0, 999), two_digits, two_digits, two_digits)
def test_folder_names_come_back(tmp_path_factory, subject, action, subaction, camera):
    name = SequenceName(subject, action, subaction, camera)
    assert parse_folder(tmp_path_factory.getbasetemp() / name.folder) == name
    assert is_sequence(name.folder)


@pytest.mark.parametrize(
    "name",
    [
        "s_1_act_02_subact_01_ca_01",
        "s_009_act_02_subact_01_ca_01",
        "s_01_act_02_subact_01_ca_01_old",
        "S1",
        "",
    ],
)
def test_other_folder_names_are_refused(tmp_path, name):
    assert not is_sequence(name)
    with pytest.raises(DataError, match=r"no sequence's.*dataset\.exclude"):
        parse_folder(tmp_path / f"x{name}" / ".." / (name or "x"))


def test_frame_names(tmp_path):
    folder = "s_01_act_02_subact_01_ca_01"
    assert parse_frame(tmp_path / f"{folder}_000123.jpg", folder) == 123
    for bad in (f"{folder}_12.jpg", f"{folder}_000000.jpg", "s_05_act_02_subact_01_ca_01_000001.jpg"):
        with pytest.raises(DataError, match="rename"):
            parse_frame(tmp_path / bad, folder)


def save(path, **changes):
    joints = np.stack([STANDING_MM + np.array([100 * f, 0, 930]) for f in range(4)])
    fields = {"pose3d_world": joints, **camera_of(2), **changes}
    scipy.io.savemat(path, {name: value for name, value in fields.items() if value is not None})
    return path


def test_camera_and_poses(tmp_path):
    meta = read_meta(save(tmp_path / "h36m_meta.mat"))
    assert meta.joints_world_mm.shape == (4, 17, 3)
    assert (meta.camera.width_px, meta.camera.height_px) == (128, 120)
    expected = opencv_project(meta.joints_world_mm[2], camera_of(2))
    np.testing.assert_allclose(meta.camera.project(meta.joints_world_mm[2]), expected, atol=1e-6)


def test_a_translation_in_place_of_the_centre_is_converted(tmp_path):
    fields = camera_of(2)
    t = -fields["R"] @ fields["T"].reshape(3)
    meta = read_meta(save(tmp_path / "h36m_meta.mat", T=None, t=t))
    np.testing.assert_allclose(meta.camera.centre_world_mm, fields["T"].reshape(3), atol=1e-9)


def test_distortion_is_read_when_given(tmp_path):
    lens = {"k": np.array([[-0.2, 0.1, 0.01]]), "p": np.array([[0.001, -0.002]])}
    meta = read_meta(save(tmp_path / "h36m_meta.mat", **lens))
    points = STANDING_MM + np.array([0, 0, 930])
    expected = opencv_project(points, {**camera_of(2), **lens})
    np.testing.assert_allclose(meta.camera.project(points), expected, atol=1e-6)


def nan_joints():
    joints = np.repeat(STANDING_MM[None] + np.array([0, 0, 930]), 4, 0)
    joints[2, 5, 1] = np.nan
    return joints


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        *(({name: None}, f"has no field {name}") for name in ("pose3d_world", "R", "f", "c", "img_width")),
        ({"T": None}, "has no field T"),
        ({"pose3d_world": nan_joints()}, "pose3d_world holds NaN or infinity in row 3"),
        ({"pose3d_world": np.zeros((4, 32, 3))}, r"is \(4, 32, 3\), not \(frames, 17, 3\)"),
        ({"R": 1.01 * camera_of(2)["R"]}, "R is no rotation"),
        ({"R": camera_of(2)["R"] * [[1], [1], [-1]]}, "R is no rotation"),
        ({"R": np.eye(2)}, "R holds 4 numbers, not 9"),
        ({"f": np.array([[0.0, 100]])}, "not positive"),
        ({"k": np.zeros((1, 3))}, "has no field p"),
        ({"T": "here"}, "T does not hold numbers"),
        ({"T": -camera_of(2)["R"] @ camera_of(2)["T"].reshape(3)}, "behind the camera"),
    ],
)
def test_faults_of_a_mat_are_named(tmp_path, changes, problem):
    path = save(tmp_path / "h36m_meta.mat", **changes)
    with pytest.raises(DataError, match=problem) as caught:
        read_meta(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no mat file at all, but long enough for a header" * 10])
def test_what_is_no_mat_is_named(tmp_path, content):
    path = tmp_path / "h36m_meta.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as \.mat"):
        read_meta(path)
    with pytest.raises(DataError, match="is missing"):
        read_meta(tmp_path / "other.mat")


def test_a_mat_cut_short_is_named(tmp_path):
    path = save(tmp_path / "h36m_meta.mat")
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=r"h36m_meta\.mat"):
            read_meta(path)


@pytest.mark.parametrize(
    "error", [AssertionError("a\nb"), RecursionError(), MemoryError(), OverflowError("x")]
)
def test_whatever_scipy_s_reader_raises_is_one_line(tmp_path, monkeypatch, error):
    def fail(file):
        raise error

    monkeypatch.setattr(scipy.io, "loadmat", fail)
    with pytest.raises(
        DataError, match=r"h36m_meta\.mat: cannot be read as \.mat \(\w+\); restore it"
    ) as caught:
        read_meta(save(tmp_path / "h36m_meta.mat"))
    assert "\n" not in str(caught.value)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.jpg"
    smooth = np.full((60, 80, 3), (10, 120, 240), np.uint8)
    cv2.imwrite(str(path), smooth[..., ::-1])
    return path


def test_images_are_rgb(picture):
    image = read_image(picture, width_px=80, height_px=60)
    assert image.shape == (60, 80, 3)
    np.testing.assert_allclose(image.reshape(-1, 3).mean(0), [10, 120, 240], atol=3)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_jpeg_cut_short_is_named(picture, share):
    """OpenCV alone would return grey rows for the part that is gone."""
    whole = picture.read_bytes()
    picture.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"a\.jpg: is no whole JPEG"):
        read_image(picture, width_px=80, height_px=60)


def test_a_jpeg_padded_with_zeros_is_whole(picture):
    expected = read_image(picture)
    picture.write_bytes(picture.read_bytes() + bytes(512))
    np.testing.assert_array_equal(read_image(picture), expected)


def test_what_is_no_picture_is_named(picture):
    picture.write_bytes(b"text\xff\xd9")
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(picture)
    with pytest.raises(DataError, match=r"nowhere\.jpg: cannot be read \(No such file"):
        read_image(picture.with_name("nowhere.jpg"))


def with_orientation(jpeg, value):
    """The JPEG with an Exif segment that says how a viewer should turn it."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def test_an_orientation_tag_does_not_turn_the_pixels(picture):
    expected = read_image(picture)
    picture.write_bytes(with_orientation(picture.read_bytes(), 6))
    obeyed = cv2.imdecode(np.frombuffer(picture.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert obeyed.shape == (80, 60, 3)  # the tag is one that OpenCV would obey
    np.testing.assert_array_equal(read_image(picture, width_px=80, height_px=60), expected)
    assert read_mask(picture, width_px=80, height_px=60).shape == (60, 80)


def test_another_size_is_named(picture):
    with pytest.raises(DataError, match="is 80x60 pixels, not 60x80"):
        read_image(picture, width_px=60, height_px=80)
    with pytest.raises(DataError, match="make it as large as its image"):
        read_mask(picture, width_px=100, height_px=100)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_masks_are_cleaned_of_codec_noise(tmp_path, suffix):
    mask = np.zeros((60, 80), np.uint8)
    mask[10:40, 20:50] = 255
    path = tmp_path / f"mask{suffix}"
    cv2.imwrite(str(path), mask, [cv2.IMWRITE_JPEG_QUALITY, 60] if suffix == ".jpg" else [])
    np.testing.assert_array_equal(read_mask(path, width_px=80, height_px=60), mask)
