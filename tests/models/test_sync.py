"""Which views belong together, and whether the classifier learns it from the person alone."""

import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.losses import multi_scale_gradient
from geobody.models.arm import LossWeights
from geobody.models.encoder_decoder import make_encoder_decoder
from geobody.models.encoder_decoder_training import Quadruples, Recipe, draw_lesson, recipe_of
from geobody.models.sync import pairs_of
from geobody.training.determinism import seeded
from geobody.training.loop import Batch

SIZE = 32


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops") / "crops"
    return CropShards.open(write_fake_shards(folder, crop_size_px=SIZE, frames=6, subjects=(1, 5)))


def test_pairs_by_hand():
    """Quadruple 0 unmirrored, quadruple 1 mirrored but for its last view."""
    pairs = pairs_of(torch.tensor([False] * 4 + [True, True, True, False]))
    found = {
        (int(a), int(b)): (int(t), round(float(w), 6)) for a, b, t, w in zip(*pairs, strict=True) if w > 0
    }
    positive, flipped, apart = (1, round(0.5 / 3, 6)), (0, 0.25), (0, round(0.25 / 6, 6))
    assert found == {
        (0, 1): positive, (2, 3): positive, (4, 5): positive, (6, 7): flipped,
        (0, 2): apart, (0, 3): apart, (1, 2): apart, (1, 3): apart, (4, 6): apart, (5, 6): apart,
    }  # fmt: skip
    assert len(pairs.first) == 12 and float(pairs.weights.sum()) == pytest.approx(1)


def test_without_a_view_mirrored_alone_time_is_the_only_negative():
    pairs = pairs_of(torch.zeros(8, dtype=torch.bool))
    negative = pairs.together == 0
    assert float(pairs.weights[negative].sum()) == pytest.approx(0.5)
    assert torch.equal(pairs.first[negative] // 4, pairs.second[negative] // 4)


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
    table, pairs = crops.table, pairs_of(lesson.mirrored)
    one, two = rows[pairs.first], rows[pairs.second]
    for name in ("subject", "action", "subaction"):
        assert (table[name][one] == table[name][two]).all()
    same_time = torch.from_numpy(table["frame"][one] == table["frame"][two])
    same_way = lesson.mirrored[pairs.first] == lesson.mirrored[pairs.second]
    assert torch.equal(pairs.together > 0, same_time & same_way)
    assert torch.equal(pairs.weights > 0, same_way | same_time)
    assert (table["camera"][one] != table["camera"][two])[same_time].all()
    for kind in (same_time & same_way, same_time & ~same_way, ~same_time & same_way):
        assert kind.any()


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
    assert float(with_it["sync"].detach()) == pytest.approx(0.693, abs=0.2)  # an untrained classifier guesses
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
    for _ in range(40):
        terms = network.loss(
            network.encode(lesson.seen), lesson, feature_loss=multi_scale_gradient, weights=LossWeights()
        )
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
    assert float(terms["sync_accuracy"]) > 0.9 and float(terms["sync"].detach()) < 0.35
