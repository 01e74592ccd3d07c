"""Drawing: PNGs that repeat and stay small, bodies where they should be, skeletons the right way up."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from capsule_body import capsule_body
from crop_fixtures import STANDING_MM, write_fake_shards
from geobody.data.crops import CropShards
from geobody.report.eval_figures import DIRECTIONS, heading_deg, rows_by_direction
from geobody.report.figures import LEFT, RIGHT, draw_body, draw_skeleton, new_figure, save_png, turned

TO_CAMERA = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""World (z up, facing -y) to a camera that looks along +y: x right, y down, z forward."""


def noisy_figure(seed: int):
    figure = new_figure(6, 6)
    figure.subplots().imshow(np.random.default_rng(seed).random((600, 600, 3)))
    return figure


def test_png_is_small_enough_repeats_and_carries_no_date(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_png(tmp_path / "new" / f"{name}.png", noisy_figure(0), max_bytes=60_000)
    first, second = ((tmp_path / "new" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second
    assert len(first) <= 60_000
    assert b"Software" not in first and b"tIME" not in first


def upright_body() -> tuple[np.ndarray, np.ndarray]:
    data = capsule_body()
    return data["v_template"] * np.array([1.0, -1.0, -1.0]), data["f"].astype(np.int64)


def test_a_body_is_painted_onto_its_projection() -> None:
    vertices, faces = upright_body()
    placed = 0.7 * vertices + np.array([0.2, 0.0, 4.5])
    size, focal = 128, 128 * 4.5 / 2
    picture = draw_body(placed, faces, focal_px=focal, size_px=size)
    px = focal * placed[:, :2] / placed[:, 2:] + (size - 1) / 2
    painted = np.argwhere((picture < 250).any(axis=2))[:, ::-1]
    np.testing.assert_allclose(painted.min(axis=0), px.min(axis=0), atol=1.0)
    np.testing.assert_allclose(painted.max(axis=0), px.max(axis=0), atol=1.0)


def test_what_is_nearer_hides_what_is_farther_and_the_image_shows_around() -> None:
    """Two triangles, the nearer one edge-on lit less: the pixel between them has its shade."""
    near = np.array([[-0.5, -0.5, 2.0], [0.5, -0.5, 2.6], [0.0, 0.7, 2.0]])
    far = np.array([[-0.5, -0.5, 3.0], [0.5, -0.5, 3.0], [0.0, 0.7, 3.0]])
    face = np.array([[0, 2, 1]])
    image = np.full((32, 32, 3), (10, 200, 30), np.uint8)
    settings = {"focal_px": 32.0, "size_px": 32, "image": image}
    both = draw_body(np.concatenate([far, near]), np.concatenate([face, face + 3]), **settings)
    alone = draw_body(near, face, **settings)
    behind = draw_body(far, face, **settings)
    assert (both[15, 15] == alone[15, 15]).all()
    assert (alone[15, 15] != behind[15, 15]).any()
    assert (both[0, 31] == (10, 200, 30)).all()
    turned_away = draw_body(near, face[:, ::-1], **settings)
    assert (turned_away == cv2.resize(image, (32, 32))).all()


def test_a_skeleton_stands_with_its_left_on_the_right_when_it_faces_the_camera() -> None:
    joints = STANDING_MM @ TO_CAMERA.T
    axes = new_figure(2, 2).subplots()
    draw_skeleton(axes, joints)
    lines = {colour: [line for line in axes.lines if line.get_color() == colour] for colour in (LEFT, RIGHT)}
    assert np.mean([line.get_xdata().mean() for line in lines[LEFT]]) > 100
    assert np.mean([line.get_xdata().mean() for line in lines[RIGHT]]) < -100
    bottom, top = axes.get_ylim()
    assert bottom > top
    feet = [line.get_ydata()[1] for line in axes.lines][2]
    assert feet == pytest.approx(880)


def test_turned_by_a_quarter_what_was_far_is_on_the_right() -> None:
    np.testing.assert_allclose(turned(np.array([0.0, 1.0, 2.0]), 90.0), [2.0, 1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("yaw", [0, 40, 90, 180, 300])
def test_heading_is_the_turn_from_the_camera(yaw: int) -> None:
    """A person who faces the camera and turns towards the image's right has a growing heading."""
    facing_camera = STANDING_MM @ TO_CAMERA.T
    joints = turned(facing_camera, -yaw)
    assert heading_deg(joints[None])[0] == pytest.approx(yaw % 360, abs=1.0)
    forward = turned(np.array([0.0, 0.0, -1.0]), -yaw)
    assert forward[0] == pytest.approx(np.sin(np.radians(yaw)), abs=1e-9)


def test_chosen_rows_cover_every_direction_and_all_people(tmp_path: Path) -> None:
    shards = CropShards.open(write_fake_shards(tmp_path, frames=20, subjects=(9, 11)))
    joints, subjects = shards.table["joints_mm"], shards.table["subject"]
    allowed = np.ones(len(shards), bool)
    allowed[::5] = False
    rows = rows_by_direction(joints, subjects, allowed)
    assert len(rows) == DIRECTIONS and allowed[rows].all()
    centres = 360 / DIRECTIONS * np.arange(DIRECTIONS)
    off = (heading_deg(joints[rows]) - centres + 180) % 360 - 180
    assert (np.abs(off) <= 180 / DIRECTIONS + 1e-9).all()
    assert set(subjects[rows].tolist()) == {9, 11}
