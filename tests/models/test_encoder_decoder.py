import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.errors import DataError, ParamsError
from geobody.losses import multi_scale_gradient
from geobody.models.arm import Cameras, DrawingArm, Latent, Lesson, LossWeights, Views, turn_points
from geobody.models.encoder_decoder import (
    ARMS,
    draw_views,
    embed,
    load_encoder_decoder,
    load_views,
    make_encoder_decoder,
)
from geobody.models.sync import Sync
from geobody.training.checkpoint import save_weights
from geobody.training.determinism import seeded

SIZE = 32
DRAWING = [name for name, kind in ARMS.items() if issubclass(kind, DrawingArm)]
LEARNING = [name for name, kind in ARMS.items() if kind.trained]


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return CropShards.open(write_fake_shards(tmp_path_factory.mktemp("crops") / "crops", crop_size_px=SIZE))


def arm(name: str, *, track: str = "rgb", size: int = SIZE):
    with seeded(0, name):
        return make_encoder_decoder(arm=name, crop_size_px=size, track=track).eval()


def rotations(count: int) -> torch.Tensor:
    matrices = torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    q, _ = torch.linalg.qr(matrices)
    return q * torch.linalg.det(q)[:, None, None]


def cameras(count: int) -> Cameras:
    return Cameras(focal=torch.full((count,), 2.25), depth_m=torch.full((count,), 4.5))


def views_of(images: torch.Tensor) -> Views:
    masks = (images[:, :1] > 0.5).float()
    return Views(images=images, backgrounds=images.flip(0), masks=masks, cameras=cameras(len(images)))


def test_points_turn_as_the_camera_does():
    """The world's point seen by two cameras: turning what the source sees gives what the target sees."""
    world = torch.randn(2, 200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    source, target = rotations(2), rotations(4)[2:]
    seen = world @ source.transpose(1, 2)
    turned = turn_points(seen, target @ source.transpose(1, 2))
    torch.testing.assert_close(turned, (world @ target.transpose(1, 2)).float())


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("size", [32, 64])
def test_latent_and_picture_have_their_shapes(name, size):
    network = arm(name, size=size)
    latent = network.encode(torch.rand(3, 3, size, size))
    assert latent.points.shape == (3, 200, 3) and latent.appearance.shape == (3, 128)
    assert latent.points.dtype == latent.appearance.dtype == torch.float32
    assert isinstance(network, DrawingArm) == (name not in ("sync", "scratch"))
    assert network.equivariant == (name not in ("sync", "scratch"))
    if not isinstance(network, DrawingArm):
        return
    drawn = network.render(latent, torch.rand(3, 3, size, size), cameras(3))
    assert drawn.shape == (3, 3, size, size) and drawn.min() >= 0 and drawn.max() <= 1


def test_thesis_has_its_published_size():
    count = sum(
        p.numel() for p in make_encoder_decoder(arm="thesis", crop_size_px=64, track="rgb").parameters()
    )
    assert round(count / 1e6, 1) == 18.6


def test_only_the_thesis_keeps_its_points_in_one_octant():
    images = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    assert (arm("thesis").encode(images).points >= 0).all()
    points = arm("rhodin").encode(images).points
    assert 0.3 < (points > 0).float().mean() < 0.7


def test_rhodin_hides_the_background_where_it_is_opaque():
    """With alpha pushed to 1 the background has no say; with alpha pushed to 0 nothing else has."""
    network = arm("rhodin")
    latent = Latent(torch.randn(2, 200, 3), torch.randn(2, 128))
    room, other = torch.rand(2, 2, 3, SIZE, SIZE)
    for logit, same in ((50.0, True), (-50.0, False)):
        with torch.no_grad():
            network.decoder.last.weight[3] = 0
            network.decoder.last.bias[3] = logit
        a, b = (network.render(latent, x, cameras(2)) for x in (room, other))
        assert torch.allclose(a, b, atol=1e-4) == same
        if not same:
            torch.testing.assert_close(a, room)


@pytest.mark.parametrize("name", LEARNING)
def test_loss_falls_to_points_appearance_and_every_weight(name):
    network = arm(name).train()
    images = torch.rand(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    lesson = Lesson(
        seen=images,
        views=views_of(images),
        R=rotations(8).float(),
        mirrored=torch.tensor([False, False, False, True, True, True, True, True]),
        camera=torch.arange(8),
        source=torch.tensor([1, 0, 2, 3, 5, 5, 6, 7]),
        appearance=torch.tensor([2, 3, 0, 1, 6, 7, 4, 5]),
    )
    terms = network.loss(
        network.encode(images), lesson, feature_loss=multi_scale_gradient, weights=LossWeights()
    )
    terms["total"].backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The synchronisation pretext alone does not shape L_app.
    assert (
        all(name.startswith("appearance.") for name in without) if isinstance(network, Sync) else not without
    ), without


def test_masked_track_never_sees_the_background(crops):
    network = arm("rhodin", track="masked")
    views, masks_diff, _ = load_views(crops, np.arange(4), torch.device("cpu"))
    elsewhere = torch.where(masks_diff > 0, views.images, 1 - views.images)
    seen, changed = (network.encode(network.network_input(x, masks_diff)) for x in (views.images, elsewhere))
    assert torch.equal(seen.points, changed.points) and torch.equal(seen.appearance, changed.appearance)
    plain = arm("rhodin")
    assert torch.equal(plain.network_input(elsewhere, masks_diff), elsewhere)


@pytest.mark.parametrize("name", ARMS)
def test_loaded_network_draws_and_embeds_the_same(tmp_path, crops, name):
    network = arm(name)
    path = tmp_path / "encdec.safetensors"
    save_weights(path, network, network.config)
    loaded = load_encoder_decoder(path)
    assert type(loaded) is type(network) and loaded.config == network.config
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    rows = np.arange(len(crops))
    first, second = embed(network, crops, rows), embed(loaded, crops, rows)
    assert first[0].shape == (len(crops), 200, 3) and first[1].dtype == np.float32
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    if name in DRAWING:
        source, target = rows[:5], rows[5:10]
        drawn = [draw_views(net, crops, source=source, target=target) for net in (network, loaded)]
        assert np.array_equal(*drawn) and drawn[0].shape == (5, SIZE, SIZE, 3)


def test_the_same_encoder_serves_every_arm_but_the_thesis():
    shapes = {
        name: [
            tuple(p.shape)
            for part in ("pyramid", "points", "appearance")
            for p in getattr(arm(name), part).parameters()
        ]
        for name in ARMS
        if name != "thesis"
    }
    assert all(found == shapes["rhodin"] for found in shapes.values())


def test_an_embedding_does_not_depend_on_its_company(crops):
    network = arm("rhodin")
    all_points, _ = embed(network, crops, np.arange(len(crops)))
    some, _ = embed(network, crops, np.array([7, 3]))
    np.testing.assert_allclose(some, all_points[[7, 3]], atol=1e-5)


def test_bad_names_and_files_are_refused(tmp_path):
    with pytest.raises(
        ParamsError, match=r"encdec.arm: value 'nerf': one of rhodin, explicit, sync, .*thesis, scratch"
    ):
        make_encoder_decoder(arm="nerf", crop_size_px=32, track="rgb")
    with pytest.raises(ParamsError, match=r"training.track: value 'depth'"):
        make_encoder_decoder(arm="rhodin", crop_size_px=32, track="depth")
    with pytest.raises(ParamsError, match="multiple of 16"):
        make_encoder_decoder(arm="rhodin", crop_size_px=40, track="rgb")
    path = tmp_path / "encdec.safetensors"
    save_weights(path, arm("rhodin"), arm("rhodin", size=64).config)
    with pytest.raises(DataError, match="another network's weights; make it anew with: dvc repro encdec"):
        load_encoder_decoder(path)
    with pytest.raises(DataError, match="crops of 32 px, not 64"):
        arm("rhodin").require_crop_size(64, path)


def test_weights_of_the_terms_add_up_to_the_total():
    network = arm("rhodin")
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    weights = LossWeights(mse=3.0, feature=0.5, mask=2.0)
    terms = network.drawing_loss(
        network.encode(images), views_of(images), feature_loss=multi_scale_gradient, weights=weights
    )
    expected = 3 * terms["mse"] + 0.5 * terms["feature"] + 2 * (terms["mask_bce"] + terms["mask_dice"])
    torch.testing.assert_close(terms["total"], expected)
