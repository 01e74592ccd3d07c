import csv
from dataclasses import replace

import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.data.crops import CropShards
from geobody.errors import DataError
from geobody.losses import multi_scale_gradient
from geobody.models import encoder_decoder_training as training
from geobody.models.arm import Latent, LossWeights
from geobody.models.encoder_decoder import ARMS, load_views, make_encoder_decoder
from geobody.models.encoder_decoder_training import (
    Quadruples,
    Recipe,
    draw_mirrored,
    draw_partners,
    held_out_instants,
    train_encoder_decoder,
    view_loss,
)
from geobody.training.determinism import seeded
from geobody.training.loop import Batch
from geobody.training.schedule import Schedule

SIZE = 32
FULL = Recipe(
    same_view_fraction=0.4,
    colour_strength=1.0,
    spoil_strength=1.0,
    background_fraction=0.3,
    mirror=True,
    turn_deg=10.0,
)
SCHEDULE = Schedule(
    steps=6, batch_size=8, learning_rate=1e-3, weight_decay=0.01, warmup_steps=2, clip_norm=5.0
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops") / "crops"
    return CropShards.open(write_fake_shards(folder, crop_size_px=SIZE, frames=6, subjects=(1, 5, 9)))


@pytest.fixture(scope="module")
def quadruples(crops):
    return Quadruples.of(crops, crops.views(split="train"), appearance_from="subject")


def settings(tmp_path, **changes):
    return {
        "subjects": None,
        "arm": "rhodin",
        "track": "rgb",
        "feature_loss": "gradient",
        "feature_weights": tmp_path / "none.safetensors",
        "recipe": FULL,
        "weights": LossWeights(),
        "held_out_fraction": 0.2,
        "schedule": SCHEDULE,
        "seed": 0,
        "precision": "bf16-mixed",
        "threads": 1,
        "device": "cpu",
        "scratch": tmp_path / "scratch",
        "curves": tmp_path / "curves.csv",
    } | changes


def test_a_quadruple_is_two_cameras_of_two_instants_of_one_person(crops, quadruples):
    rows = quadruples.rows(np.arange(len(quadruples.views)), torch.Generator().manual_seed(0)).reshape(-1, 4)
    table = crops.table
    assert (table["subject"][rows] == table["subject"][rows[:, :1]]).all()
    assert (table["instant"][rows[:, 0]] == table["instant"][rows[:, 1]]).all()
    assert (table["instant"][rows[:, 2]] == table["instant"][rows[:, 3]]).all()
    assert (table["instant"][rows[:, 0]] != table["instant"][rows[:, 2]]).all()
    assert (table["camera"][rows[:, 0]] != table["camera"][rows[:, 1]]).all()
    assert (table["camera"][rows[:, 2]] != table["camera"][rows[:, 3]]).all()
    np.testing.assert_array_equal(table["instant"][rows[:, 0]], table["instant"][quadruples.views[:, 0]])


@pytest.mark.parametrize(("appearance_from", "names"), [("subject", 1), ("sequence", 3)])
def test_every_other_instant_of_the_same_looks_is_drawn(crops, appearance_from, names):
    views, table = crops.views(split="train"), crops.table
    drawn = Quadruples.of(crops, views, appearance_from=appearance_from)
    others = drawn.rows(np.zeros(400, np.int64), torch.Generator().manual_seed(0)).reshape(-1, 4)[:, 2]
    keys = np.stack([table[name] for name in ("subject", "action", "subaction")[:names]], axis=1)
    alike = (keys == keys[views[0, 0]]).all(1) & (table["instant"] != table["instant"][views[0, 0]])
    np.testing.assert_array_equal(np.unique(table["instant"][others]), np.unique(table["instant"][alike]))


def test_partners_are_the_same_instant_for_points_and_the_other_for_looks():
    alike = torch.zeros(4000, dtype=torch.bool)
    source, appearance = draw_partners(alike, same_view=0.4, generator=torch.Generator().manual_seed(0))
    index = torch.arange(4000)
    assert torch.equal(source // 2, index // 2)
    assert (source == index).float().mean() == pytest.approx(0.4, abs=0.03)
    assert torch.equal(appearance // 4, index // 4) and (appearance // 2 != index // 2).all()
    assert (appearance % 2).float().mean() == pytest.approx(0.5, abs=0.03)


class Recorder(torch.nn.Module):
    """Stands where an arm stands and keeps what it is given; its points are known, so that turns are."""

    def __init__(self, points: torch.Tensor, *, synchronised: bool = False, track: str = "rgb") -> None:
        super().__init__()
        self.points, self.synchronised, self.track = points, synchronised, track

    def network_input(self, images, masks_diff):
        return images

    def encode(self, images):
        self.seen = images
        looks = torch.arange(len(images), dtype=torch.float32)[:, None].expand(-1, 128)
        return Latent(self.points, looks)

    def loss(self, latent, lesson, *, feature_loss, weights):
        turned = lesson.turned(latent.points, lesson.source)
        self.latent, self.target = Latent(turned, latent.appearance[lesson.appearance]), lesson.views
        self.lesson = lesson
        return {"total": turned.sum()}


def record(crops, quadruples, recipe, points, *, seed=0, synchronised=False, track="rgb"):
    network = Recorder(points, synchronised=synchronised, track=track)
    generator = torch.Generator().manual_seed(seed)
    batch = Batch(np.arange(len(points) // 4), 0, "encdec", generator)
    view_loss(
        network,
        batch,
        crops=crops,
        quadruples=quadruples,
        recipe=recipe,
        feature_loss=multi_scale_gradient,
        weights=LossWeights(),
        device=torch.device("cpu"),
    )
    rows = quadruples.rows(batch.rows, torch.Generator().manual_seed(seed))
    return network, rows


def test_the_joints_of_the_source_arrive_as_the_joints_of_the_target(crops, quadruples):
    """L_3D that held the true joints of its own crop would hold those of the target's crop when drawn."""
    rows = quadruples.rows(np.arange(4), torch.Generator().manual_seed(0))
    joints = torch.from_numpy(crops.table["joints_mm"][rows]).float()
    network, same_rows = record(crops, quadruples, Recipe(same_view_fraction=0.3), joints)
    np.testing.assert_array_equal(rows, same_rows)
    torch.testing.assert_close(network.latent.points, joints, atol=0.1, rtol=1e-4)


def test_unchanged_recipe_leaves_every_picture_as_stored(crops, quadruples):
    network, rows = record(crops, quadruples, Recipe(), torch.zeros(16, 200, 3))
    stored, _, _ = load_views(crops, rows, torch.device("cpu"))
    assert torch.equal(network.seen, stored.images) and torch.equal(network.target.images, stored.images)
    assert torch.equal(network.target.backgrounds, stored.backgrounds)


def test_noise_holes_and_rooms_change_the_input_never_the_target(crops, quadruples):
    recipe = Recipe(spoil_strength=1.0, background_fraction=1.0)
    network, rows = record(crops, quadruples, recipe, torch.zeros(16, 200, 3))
    stored, _, _ = load_views(crops, rows, torch.device("cpu"))
    assert torch.equal(network.target.images, stored.images)
    assert (network.seen - stored.images).abs().mean() > 0.02


def test_colours_change_alike_in_the_four_views(crops, quadruples):
    """A person of one colour has one colour after the change, the same in all four targets."""
    network, rows = record(crops, quadruples, Recipe(colour_strength=1.0), torch.zeros(16, 200, 3))
    stored, _, _ = load_views(crops, rows, torch.device("cpu"))
    inside = (stored.masks == 1).float()
    means = (network.target.images * inside).sum((2, 3)) / inside.sum((2, 3))
    before = (stored.images * inside).sum((2, 3)) / inside.sum((2, 3))
    spread_before = (before.view(-1, 4, 3) - before.view(-1, 4, 3).mean(1, keepdim=True)).abs().max()
    spread = (means.view(-1, 4, 3) - means.view(-1, 4, 3).mean(1, keepdim=True)).abs().max()
    assert (means - before).abs().mean() > 0.05
    assert spread < 0.02 + 3 * spread_before


def test_the_true_outline_changes_nothing_that_the_track_masked_sees(crops, quadruples):
    others = replace(crops, masks=255 - np.array(crops.masks))
    recipe = Recipe(colour_strength=1.0, background_fraction=1.0)

    def seen(shards, track):
        return record(shards, quadruples, recipe, torch.zeros(16, 200, 3), track=track)[0].seen

    assert torch.equal(seen(crops, "masked"), seen(others, "masked"))
    assert not torch.equal(seen(crops, "rgb"), seen(others, "rgb"))


def test_a_roll_turns_pictures_and_rotations_alike(crops, quadruples):
    """Rolled targets expect L_3D in the rolled frame."""
    points = (
        torch.tensor([[300.0, 0.0, 0.0], [0.0, 300.0, 0.0], [0.0, 0.0, 300.0]]).expand(16, 3, 3).contiguous()
    )
    network, rows = record(crops, quadruples, Recipe(same_view_fraction=1.0, turn_deg=20.0), points)
    torch.testing.assert_close(network.latent.points, points, atol=1e-3, rtol=0)  # a view to itself: no turn
    stored, _, _ = load_views(crops, rows, torch.device("cpu"))
    assert (network.target.images - stored.images).abs().mean() > 0.005
    assert torch.equal(network.seen, network.target.images)
    crossed, _ = record(crops, quadruples, Recipe(turn_deg=20.0), points)
    straight, _ = record(crops, quadruples, Recipe(), points)
    relative = crossed.latent.points.transpose(1, 2) / 300, straight.latent.points.transpose(1, 2) / 300
    # R' = R_z(b) R R_z(-a): the rolls of the two views, about their optical axes, leave the element zz.
    torch.testing.assert_close(relative[0][:, 2, 2], relative[1][:, 2, 2], atol=1e-4, rtol=0)
    assert (relative[0] - relative[1]).abs().max() > 0.1


def test_a_mirrored_quadruple_is_the_mirrored_persons(crops, quadruples):
    """Joints of the mirrored source, x negated, arrive as those of the mirrored target; pictures flip."""
    rows = quadruples.rows(np.arange(4), torch.Generator().manual_seed(0))
    joints = torch.from_numpy(crops.table["joints_mm"][rows]).float()
    mirrored = record(crops, quadruples, Recipe(mirror=True), joints)[0].lesson.mirrored
    assert 0 < mirrored.sum() < 16 and (mirrored.view(-1, 4) == mirrored.view(-1, 4)[:, :1]).all()
    seen = torch.where(mirrored[:, None, None], joints * torch.tensor([-1.0, 1, 1]), joints)
    network, _ = record(crops, quadruples, Recipe(mirror=True), seen)
    assert (network.lesson.source != torch.arange(16)).any()
    torch.testing.assert_close(network.latent.points, seen, atol=0.1, rtol=1e-4)
    stored, _, _ = load_views(crops, rows, torch.device("cpu"))
    flipped = torch.where(mirrored[:, None, None, None], stored.images.flip(-1), stored.images)
    assert torch.equal(network.target.images, flipped) and torch.equal(network.seen, flipped)


def test_a_view_mirrored_alone_is_drawn_from_itself(crops, quadruples):
    network, _ = record(crops, quadruples, Recipe(mirror=True), torch.zeros(16, 200, 3), synchronised=True)
    mirrored = network.lesson.mirrored.view(-1, 4)
    alone = mirrored[:, 2] != mirrored[:, 3]
    assert alone.any() and not alone.all() and (mirrored[:, :3] == mirrored[:, :1]).all()
    source = network.lesson.source.view(-1, 4)
    own = torch.arange(16).view(-1, 4)
    assert torch.equal(source[alone, 2:], own[alone, 2:]) and torch.equal(source[:, :2], own[:, :2] ^ 1)
    determinants = torch.linalg.det(network.lesson.R).view(-1, 4)
    torch.testing.assert_close(determinants, 1.0 - 2.0 * mirrored.float(), atol=1e-5, rtol=0)


def test_the_room_does_not_tell_who_is_mirrored(crops, quadruples, monkeypatch):
    """With the same draws and nobody mirrored, what is outside the persons stays as it was."""
    recipe = Recipe(mirror=True, background_fraction=1.0, spoil_strength=1.0, colour_strength=1.0)
    points = torch.zeros(64, 200, 3)
    network, _ = record(crops, quadruples, recipe, points, synchronised=True)
    assert 0.2 < network.lesson.mirrored.float().mean() < 0.8

    def nobody(count, **options):
        return torch.zeros_like(draw_mirrored(count, **options))

    monkeypatch.setattr(training, "draw_mirrored", nobody)
    plain, _ = record(crops, quadruples, recipe, points, synchronised=True)
    assert not plain.lesson.mirrored.any()
    outside = ((network.target.masks + plain.target.masks) == 0).expand(-1, 3, -1, -1)
    assert outside.float().mean() > 0.4
    torch.testing.assert_close(network.seen[outside], plain.seen[outside], atol=1e-5, rtol=0)
    assert (network.seen - plain.seen).abs().amax((1, 2, 3))[network.lesson.mirrored].min() > 0.01


@pytest.mark.parametrize(("track", "fraction"), [("rgb", 1.0), ("masked", 0.2)])
def test_arms_that_compare_views_fix_what_would_tell_them_the_answer(track, fraction):
    given = Recipe(background_fraction=0.2, appearance_from="subject")
    for arm, kind in ARMS.items():
        network = make_encoder_decoder(arm=arm, crop_size_px=SIZE, track=track)
        recipe = training.recipe_of(network, given)
        if kind.synchronised:
            assert (recipe.background_fraction, recipe.appearance_from) == (fraction, "sequence")
            assert recipe.mirror
        elif arm != "thesis":
            assert recipe == given


def test_held_out_instants_end_their_sequences(crops):
    held_out = held_out_instants(crops, fraction=0.2)
    table = crops.table
    chosen = np.isin(table["instant"], held_out)
    assert not chosen[table["subject"] == 9].any()
    for subject in (1, 5):
        for action in (2, 14):
            here = (table["subject"] == subject) & (table["action"] == action)
            np.testing.assert_array_equal(np.unique(table["frame"][here & chosen]), [6])


def test_training_reads_neither_poses_nor_test_subjects_nor_held_out_instants(tmp_path, crops, monkeypatch):
    read = []

    def spy(shards, rows, device):
        read.extend(rows.tolist())
        return load_views(shards, rows, device)

    class NoPoses(dict):
        def __getitem__(self, name):
            assert name not in ("joints_mm", "root_world_mm")
            return super().__getitem__(name)

    monkeypatch.setattr(training, "load_views", spy)
    blind = CropShards(
        images=crops.images,
        backgrounds=crops.backgrounds,
        masks=crops.masks,
        masks_diff=crops.masks_diff,
        table=NoPoses(crops.table),
    )
    longer = replace(SCHEDULE, steps=12, batch_size=16)
    train_encoder_decoder(blind, **settings(tmp_path, schedule=longer))
    assert set(crops.table["subject"][read]) == {1, 5}
    assert not np.isin(crops.table["instant"][read], held_out_instants(crops, fraction=0.2)).any()


def test_left_out_subjects_are_not_read(tmp_path, crops, monkeypatch):
    read = []

    def spy(shards, rows, device):
        read.extend(rows.tolist())
        return load_views(shards, rows, device)

    monkeypatch.setattr(training, "load_views", spy)
    train_encoder_decoder(crops, **settings(tmp_path, subjects=(5,)))
    assert set(crops.table["subject"][read]) == {5}
    with pytest.raises(DataError, match="holds no instant of two views"):
        train_encoder_decoder(crops, **settings(tmp_path, subjects=(9,)))


def test_scratch_is_what_the_seed_made_and_has_no_curve(tmp_path, crops):
    network = train_encoder_decoder(crops, **settings(tmp_path, arm="scratch"))
    with seeded(0, "encdec"):
        fresh = make_encoder_decoder(arm="scratch", crop_size_px=SIZE, track="rgb")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), fresh.parameters(), strict=True))
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert (tmp_path / "curves.csv").read_text() == "step,total\n"


@pytest.mark.parametrize("arm", ["rhodin", "thesis", "explicit+sync"])
def test_same_seed_same_weights_and_a_resumed_training_too(tmp_path, crops, arm, monkeypatch):
    whole = train_encoder_decoder(crops, **settings(tmp_path / "whole", arm=arm))
    calls = []

    def killed(*args, **options):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return view_loss(*args, **options)

    monkeypatch.setattr(training, "view_loss", killed)
    monkeypatch.setenv("GEOBODY_CHECKPOINT_SECONDS", "0")
    with pytest.raises(KeyboardInterrupt):
        train_encoder_decoder(crops, **settings(tmp_path / "cut", arm=arm))
    cut = train_encoder_decoder(crops, **settings(tmp_path / "cut", arm=arm))
    assert len(calls) == 4 + 3  # three steps and a kill, then from step 3 on
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), cut.state_dict().values(), strict=True)
    )
    assert (tmp_path / "cut/curves.csv").read_bytes() == (tmp_path / "whole/curves.csv").read_bytes()
    other = train_encoder_decoder(crops, **settings(tmp_path / "other", arm=arm, seed=1))
    assert not torch.equal(next(whole.parameters()), next(other.parameters()))


@pytest.mark.parametrize("arm", ["rhodin", "explicit"])
def test_training_learns_where_people_are(tmp_path, crops, arm):
    """In few steps the overlap of alpha and mask gets far better than that of the untrained network."""
    faster = replace(SCHEDULE, learning_rate=3e-3)
    untrained = learn(
        crops, tmp_path / "untrained", arm=arm, schedule=replace(faster, steps=1, warmup_steps=0)
    )
    curves = learn(crops, tmp_path / "trained", arm=arm, schedule=replace(faster, steps=55))
    assert curves["mask_dice"][-1] < 0.4 * untrained["mask_dice"][0]


def learn(crops, tmp_path, **changes):
    train_encoder_decoder(crops, **settings(tmp_path, recipe=Recipe(same_view_fraction=0.4), **changes))
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_one_camera_is_not_enough(tmp_path):
    folder = write_fake_shards(tmp_path / "crops", crop_size_px=SIZE, cameras=1)
    with pytest.raises(DataError, match="holds no instant of two views"):
        train_encoder_decoder(CropShards.open(folder), **settings(tmp_path))
