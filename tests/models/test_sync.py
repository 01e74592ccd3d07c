"""Which views belong together, and whether the classifier learns it from the person alone."""

import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.losses import multi_scale_gradient
from geobody.models.arm import LossWeights
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.models.encoder_decoder_training import Quadruples, Recipe, draw_lesson, recipe_of
from geobody.models.sync import pairs_of, sync_terms
from geobody.training.determinism import seeded
from geobody.training.loop import Batch

SIZE = 32
KINDS = ("together", "flipped", "apart")


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops") / "crops"
    return CropShards.open(write_fake_shards(folder, crop_size_px=SIZE, frames=6, subjects=(1, 5)))


def test_pairs_by_hand():
    """Quadruple 0 unmirrored, quadruple 1 mirrored but for its last view."""
    pairs = pairs_of(torch.tensor([False] * 4 + [True, True, True, False]), torch.arange(8))
    rows = torch.stack([pairs.first, pairs.second], -1)
    found = {name: {tuple(row) for row in rows[getattr(pairs, name)].tolist()} for name in KINDS}
    assert found == {
        "together": {(0, 1), (2, 3), (4, 5)},
        "flipped": {(6, 7)},
        "apart": {(0, 2), (0, 3), (1, 2), (1, 3), (4, 6), (5, 6)},
    }


def test_terms_by_hand():
    pairs = pairs_of(torch.tensor([False] * 4 + [True, True, True, False]), torch.arange(8))
    likeness = torch.zeros(2, 6)
    likeness[0, 0], likeness[1, 1] = 1.0, 2.0  # pair (0,1), which is together, and (6,7), which is flipped
    terms = sync_terms(likeness, pairs)
    better, worse, even = np.log1p(np.exp([-1.0, 2.0, 0.0]))
    # (0,1) against four pairs apart, (2,3) against them, (4,5) against two apart, and (4,5) against (6,7)
    assert float(terms["sync"]) == pytest.approx(((4 * better + 6 * even) / 10 + worse) / 2)
    assert float(terms["sync_accuracy"]) == pytest.approx((0.4 + 0) / 2)
    shifted = sync_terms(likeness + torch.tensor([[7.0], [-3.0]]), pairs)
    assert float(shifted["sync"]) == pytest.approx(float(terms["sync"]), rel=1e-5)


def test_without_a_view_mirrored_alone_time_is_the_only_negative():
    pairs = pairs_of(torch.zeros(8, dtype=torch.bool), torch.arange(8))
    assert not pairs.flipped.any() and pairs.apart.sum() == 8 and pairs.together.sum() == 4
    assert float(sync_terms(torch.zeros(2, 6), pairs)["sync"]) == pytest.approx(np.log(2))


def test_positives_are_one_instant_and_negatives_are_two_or_one_mirrored(crops):
    """Labels against the table, for lessons as they are drawn."""
    network = make_encoder_decoder(arm="sync", crop_size_px=SIZE, track="rgb")
    recipe = recipe_of(network, Recipe())
    quadruples = Quadruples.of(crops, crops.views(split="train"), appearance_from="sequence")
    batch = Batch(torch.arange(20).numpy(), 0, "encdec", torch.Generator().manual_seed(0))
    lesson = draw_lesson(
        network, batch, crops=crops, quadruples=quadruples, recipe=recipe, device=torch.device("cpu")
    )
    rows = quadruples.rows(batch.rows, torch.Generator().manual_seed(0))
    table, pairs = crops.table, pairs_of(lesson.mirrored, lesson.camera)
    one, two = rows[pairs.first], rows[pairs.second]
    for name in ("subject", "action", "subaction"):
        assert (table[name][one] == table[name][two]).all()
    same_time = torch.from_numpy(table["frame"][one] == table["frame"][two])
    other_camera = torch.from_numpy(table["camera"][one] != table["camera"][two])
    same_way = lesson.mirrored[pairs.first] == lesson.mirrored[pairs.second]
    assert torch.equal(pairs.together, same_time & same_way)
    assert torch.equal(pairs.flipped, same_time & ~same_way)
    assert torch.equal(pairs.apart, ~same_time & same_way & other_camera)
    assert other_camera[same_time].all() and not other_camera.all()
    assert all(getattr(pairs, name).any() for name in KINDS)


@pytest.mark.parametrize("arm", ["sync", "rhodin+sync", "explicit+sync"])
def test_the_pretexts_term_is_weighed_into_the_total(crops, arm):
    quadruples = Quadruples.of(crops, crops.views(split="train"), appearance_from="sequence")
    with seeded(0, arm):
        network = make_encoder_decoder(arm=arm, crop_size_px=SIZE, track="rgb").eval()
    batch = Batch(torch.arange(4).numpy(), 0, "encdec", torch.Generator().manual_seed(0))
    lesson = draw_lesson(
        network, batch, crops=crops, quadruples=quadruples, recipe=Recipe(), device=torch.device("cpu")
    )
    latent = network.encode(lesson.seen)
    without, with_it = (
        network.loss(latent, lesson, feature_loss=multi_scale_gradient, weights=LossWeights(sync=weight))
        for weight in (0.0, 3.0)
    )
    torch.testing.assert_close(with_it["total"], without["total"] + 3 * with_it["sync"])
    assert float(with_it["sync"].detach()) == pytest.approx(
        np.log(2), abs=0.3
    )  # an untrained classifier guesses
    assert ("mse" in with_it) == (arm != "sync")


def test_a_few_pairs_are_learned(crops):
    """The same lesson again and again: the classifier must fit it, through the encoder."""
    quadruples = Quadruples.of(crops, crops.views(split="train"), appearance_from="sequence")
    with seeded(0, "sync"):
        network = make_encoder_decoder(arm="sync", crop_size_px=SIZE, track="rgb").train()
    batch = Batch(torch.arange(6).numpy(), 0, "encdec", torch.Generator().manual_seed(0))
    lesson = draw_lesson(
        network,
        batch,
        crops=crops,
        quadruples=quadruples,
        recipe=recipe_of(network, Recipe()),
        device=torch.device("cpu"),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(25):
        terms = network.loss(
            network.encode(lesson.seen), lesson, feature_loss=multi_scale_gradient, weights=LossWeights()
        )
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    assert float(terms["sync_accuracy"]) > 0.9 and float(terms["sync"].detach()) < 0.35
