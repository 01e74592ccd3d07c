"""What eval shows: chosen by rule, turned about the vertical, and near in the embedding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from capsule_body import capsule_body
from crop_fixtures import write_fake_shards
from geobody.body.model import BodyModel
from geobody.data.crops import CropShards
from geobody.models.encoder_decoder import draw_turned, draw_views, make_encoder_decoder
from geobody.report.eval_figures import bodies_figure, neighbours_figure, rows_by_direction, turned_figure
from geobody.report.eval_pictures import SEQUENCE, WORST, neighbours_in_other_views, worst_of_sequences


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> CropShards:
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("crops"), frames=4, subjects=(9, 11)))


def test_the_worst_are_of_different_sequences_and_ordered() -> None:
    errors = np.array([5.0, 9.0, 8.0, 1.0, 7.0])
    sequences = np.array([[9, 1], [9, 1], [9, 1], [9, 2], [11, 1]])
    assert worst_of_sequences(errors, sequences).tolist() == [1, 4, 3]
    many = np.stack([np.arange(40), np.arange(40)], 1)
    assert len(worst_of_sequences(np.arange(40.0), many)) == WORST


def test_two_takes_of_an_action_are_two_sequences() -> None:
    columns = {"subject": [9, 9, 9], "action": [2, 2, 2], "subaction": [1, 2, 2], "camera": [1, 1, 1]}
    sequences = np.stack([columns[name] for name in SEQUENCE], 1)
    assert worst_of_sequences(np.array([1.0, 2.0, 3.0]), sequences).tolist() == [2, 0]


def test_neighbours_are_near_in_the_world_and_of_another_camera() -> None:
    """Points of one body turned into four cameras: the nearest are the same body's other views."""
    g = torch.Generator().manual_seed(0)
    turns = torch.linalg.qr(torch.randn(4, 3, 3, generator=g))[0].numpy()
    bodies = np.random.default_rng(0).normal(size=(5, 30, 3))
    camera = np.tile(np.arange(4), 5)
    R = turns[camera]
    l3d = np.einsum("nij,npj->npi", R, np.repeat(bodies, 4, axis=0))
    found = neighbours_in_other_views(l3d, np.array([6]), R_world_to_crop=R, camera=camera)
    assert found[0, 0] == 6
    assert set(found[0, 1:].tolist()) == {4, 5, 7}
    alone = neighbours_in_other_views(l3d[:3], np.array([0]), R_world_to_crop=R[:3], camera=np.zeros(3))
    assert set(alone[0].tolist()) == {0, 1, 2}


def test_another_turn_shows_another_person(shards: CropShards) -> None:
    joints, subjects = shards.table["joints_mm"], shards.table["subject"]
    allowed = np.ones(len(shards), bool)
    first, second = (rows_by_direction(joints, subjects, allowed, turn=turn) for turn in (0, 1))
    assert not np.array_equal(first, second)


def test_a_person_is_turned_about_the_worlds_vertical(
    shards: CropShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shown by an arm that draws the first points of L_3D themselves."""
    torch.manual_seed(0)
    network = make_encoder_decoder(arm="rhodin", crop_size_px=shards.crop_size_px, track="rgb").eval()
    monkeypatch.setattr(network, "render", lambda latent, *_: latent.points[:, :8, :, None].transpose(1, 2))
    rows = np.array([0, 3])
    R = shards.table["R_world_to_crop"][rows]

    def world(drawn: np.ndarray) -> np.ndarray:
        return np.einsum("nkd,npk->npd", R, drawn[:, :, 0])

    seen = world(draw_views(network, shards, source=rows, target=rows))
    still, quarter = (
        world(draw_turned(network, shards, rows=rows, angles_deg=np.array([0.0, angle])))
        for angle in (0.0, 90.0)
    )
    np.testing.assert_allclose(still, seen, atol=1e-6)
    np.testing.assert_allclose(quarter[0], seen[0], atol=1e-6)
    x, y, z = seen[1].T
    np.testing.assert_allclose(quarter[1], np.stack((-y, x, z), 1), atol=1e-6)


def test_more_bodies_than_a_line_holds_stand_below_each_other(shards: CropShards, tmp_path: Path) -> None:
    body = BodyModel(arrays=capsule_body())
    vertices = np.tile(1000 * body.v_template.numpy() * (1, -1, -1), (14, 1, 1))
    heights = []
    for count in (12, 14):
        path = tmp_path / f"{count}.png"
        bodies_figure(
            path, shards=shards, rows=np.arange(count), faces=body.faces.numpy(), predicted=vertices[:count],
            true=None, errors_mm=np.arange(count, dtype=float),
        )  # fmt: skip
        heights.append(Image.open(path).height)
    assert heights[1] > 1.7 * heights[0]


def test_a_title_stands_above_the_bodies(shards: CropShards, tmp_path: Path) -> None:
    body = BodyModel(arrays=capsule_body())
    vertices = np.tile(1000 * body.v_template.numpy() * (1, -1, -1), (2, 1, 1))
    heights = []
    for title in ("", "the two worst"):
        bodies_figure(
            tmp_path / "bodies.png", shards=shards, rows=np.arange(2), faces=body.faces.numpy(),
            predicted=vertices, true=None, errors_mm=np.arange(2.0), title=title,
        )  # fmt: skip
        drawn = np.asarray(Image.open(tmp_path / "bodies.png").convert("L"))
        heights.append(len(drawn))
    assert heights[1] == heights[0] + 20
    assert drawn[:18].min() < 128 and drawn[18:21].min() == 255


def test_an_arm_that_does_not_draw_leaves_the_inputs(shards: CropShards, tmp_path: Path) -> None:
    images = np.asarray(shards.images[:3])
    turned_figure(tmp_path / "a.png", inputs=images, drawn=None, angles_deg=np.arange(3.0))
    drawn = np.repeat(images[:, None] / 255, 3, axis=1)
    turned_figure(tmp_path / "b.png", inputs=images, drawn=drawn, angles_deg=np.arange(3.0))
    a, b = (Image.open(tmp_path / f"{name}.png").width for name in "ab")
    assert b > 3 * a
    titles = np.array([["", "x"]] * 2)
    neighbours_figure(
        tmp_path / "c.png", images=shards.images, neighbours=np.zeros((2, 2), int), titles=titles
    )
    assert (tmp_path / "c.png").stat().st_size > 1000
