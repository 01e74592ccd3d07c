import cv2
import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.metrics import psnr
from geobody.models.arm import DrawingArm, Latent
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.report.novel_views import draw_novel_views, novel_view_metrics, spread


class Copier(DrawingArm):
    """Draws what it saw, whichever view is asked for: exact for the view itself."""

    arm = "copier"

    def __init__(self) -> None:
        super().__init__(crop_size_px=32, track="rgb")
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, images):
        return Latent(torch.zeros(len(images), 200, 3), images.flatten(1))

    def render(self, latent, backgrounds, cameras):
        return latent.appearance.view(-1, 3, 32, 32)

    def drawing_loss(self, latent, target, *, feature_loss, weights):
        raise NotImplementedError


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("crops") / "crops"))


def test_a_copy_is_exact_as_the_same_view_and_wrong_as_a_novel_one(crops):
    views = crops.views(split="test")
    scores = novel_view_metrics(Copier(), crops, views)
    assert scores["same"] == pytest.approx(
        {"psnr_person_db": 100, "psnr_crop_db": 100, "ssim_person": 1, "ssim_crop": 1}
    )
    assert scores["novel"]["psnr_person_db"] < 30 and scores["novel"]["ssim_crop"] < 0.95


def test_background_scores_are_those_of_an_empty_room(crops):
    views = crops.views(split="test")
    scores = novel_view_metrics(Copier(), crops, views)
    seen_by = np.arange(len(views)) % 4
    novel = np.concatenate([np.delete(row, camera) for row, camera in zip(views, seen_by, strict=True)])
    expected = psnr(crops.backgrounds[novel] / 255, crops.images[novel] / 255).mean()
    assert scores["background"]["psnr_crop_db"] == pytest.approx(expected)


def test_an_arm_that_does_not_draw_has_the_rooms_scores_and_shows_its_inputs(tmp_path, crops):
    views = crops.views(split="test")
    network = make_encoder_decoder(arm="scratch", crop_size_px=32, track="rgb").eval()
    scores = novel_view_metrics(network, crops, views)
    assert scores == {"background": novel_view_metrics(Copier(), crops, views)["background"]}
    for name, arm in (("drawn.png", Copier()), ("not.png", network)):
        draw_novel_views(tmp_path / name, arm, crops, views[:2])
    drawn, not_drawn = (cv2.imread(str(tmp_path / name)) for name in ("drawn.png", "not.png"))
    assert len(not_drawn) == len(drawn) and 4 * 128 <= not_drawn.shape[1] < drawn.shape[1] - 4 * 128


def test_spread_covers_the_ends():
    views = np.arange(40).reshape(10, 4)
    np.testing.assert_array_equal(spread(views, 4)[:, 0], [0, 12, 24, 36])
    np.testing.assert_array_equal(spread(views, 50), views)


def test_figure_shows_inputs_beside_drawings_and_repeats(tmp_path, crops):
    views = spread(crops.views(split="test"), 3)
    for name in ("one.png", "two.png"):
        draw_novel_views(tmp_path / name, Copier(), crops, views)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").stat().st_size <= 300_000
    picture = cv2.imread(str(tmp_path / "one.png"))[..., ::-1]
    first = crops.images[views[0, 0]].repeat(4, 0).repeat(4, 1) & 0xFC
    places = [(y, x) for y in range(20) for x in range(60)]
    found = [(y, x) for y, x in places if np.array_equal(picture[y : y + 128, x : x + 128], first)]
    assert len(found) == 1
    y, x = found[0]
    assert np.array_equal(picture[y : y + 128, x + 130 : x + 258], first)
