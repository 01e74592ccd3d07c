from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crop_fixtures import write_fake_shards
from geobody.conventions import H36M_MIRROR
from geobody.data.crops import CropShards, write_table
from geobody.data.labels import split_labels
from geobody.data.mirroring import mirror_joints
from geobody.models.encoder_decoder import embed, make_encoder_decoder
from geobody.models.pose_batches import Augmentation, labelled_joints
from geobody.models.pose_head import EquivariantPoseHead, apply_pose_head
from geobody.models.pose_network import PoseNetwork, Predicted, predict_rows
from geobody.models.pose_tuning import TuningRecipe, mixed_rows, multiview_labels, tune, unlabelled_views
from geobody.report.pose_report import pose_report
from geobody.training.schedule import Schedule

CPU = torch.device("cpu")
RECIPE = TuningRecipe(
    schedule=Schedule(
        steps=60, batch_size=16, learning_rate=3e-3, weight_decay=0.0, warmup_steps=5, clip_norm=10.0
    ),
    rounds=2,
    first_share=0.5,
    labelled_share=0.25,
    moved_share=1.0,
    ridge=1e-2,
    heat_maps=True,
    silhouettes=True,
    heat_weight=1.0,
    augmentation=Augmentation(
        strength=0.0, background_share=0.0, turn_deg=0.0, shift_std=0.0, zoom_std=0.0, mirror=False
    ),
)
SHORT = replace(RECIPE.schedule, steps=12, warmup_steps=1)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_shards(tmp_path_factory.mktemp("tuning") / "crops", frames=3)


def train(
    crops: Path,
    folder: Path,
    *,
    unlabelled: tuple[int, ...] = (),
    arm: str = "scratch",
    training: bool = True,
    schedule: Schedule = SHORT,
    first_share: float = 0.5,
    heat_maps: bool = True,
    recipe: TuningRecipe = RECIPE,
) -> PoseNetwork:
    shards = CropShards.open(crops)
    torch.manual_seed(0)
    return tune(
        make_encoder_decoder(arm=arm, crop_size_px=32, track="rgb").train(training),
        crops=shards,
        labelled=split_labels(shards.table, subjects=[1]).train,
        unlabelled_views=shards.views(subjects=unlabelled),
        recipe=replace(recipe, schedule=schedule, first_share=first_share, heat_maps=heat_maps),
        seed=0,
        precision="32-true",
        threads=1,
        device="cpu",
        scratch=folder / "scratch",
        curves=folder / "curves.csv",
    )


def same(one: PoseNetwork, other: PoseNetwork) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_what_is_unlabelled_has_no_label_and_judges_nothing(crops: Path) -> None:
    shards = CropShards.open(crops)
    people, instant = shards.table["subject"], shards.table["instant"]
    for fraction in (1.0, 0.4):
        split = split_labels(shards.table, subjects=[1], fraction=fraction)
        views = unlabelled_views(shards, split, subjects=[1, 5])
        assert set(people[views].ravel()) == ({5} if fraction == 1 else {1, 5})
        known = {*instant[split.train], *instant[split.held_out]}
        assert not known & {*instant[views].ravel()}
        own = people == 1
        assert known | {*instant[views[people[views[:, 0]] == 1]].ravel()} == {*instant[own]}
    np.testing.assert_array_equal(
        unlabelled_views(shards, split_labels(shards.table, subjects=[1]), subjects=[1, 5, 6]),
        shards.views(split="train", subjects=[5, 6]),
    )


def test_steps_of_rounds_add_up() -> None:
    assert RECIPE.steps_of_rounds(semi_supervised=False) == [60]
    assert RECIPE.steps_of_rounds(semi_supervised=True) == [30, 15, 15]
    longer = replace(RECIPE, schedule=replace(RECIPE.schedule, steps=101), rounds=3)
    assert sum(longer.steps_of_rounds(semi_supervised=True)) == 101


def test_an_epoch_has_every_unlabelled_row_and_the_share_of_labelled_ones() -> None:
    rows = mixed_rows(np.arange(5), np.arange(10, 40), share=0.25, seed=0)
    assert (rows < 10).sum() == 10
    assert set(rows) == {*range(5), *range(10, 40)}


@pytest.mark.parametrize(("labelled", "share"), [(1500, 0.25), (1500, 0.1), (152, 0.25)])
def test_labelled_rows_of_all_actions_come_about_equally_often(labelled: int, share: float) -> None:
    """Rows are in the order of their actions: the first and the last quarter are others."""
    rows = mixed_rows(np.arange(labelled), np.arange(2000, 8720), share=share, seed=0)
    own = rows[rows < 2000]
    quarters = np.histogram(own, bins=4, range=(0, labelled))[0] / len(own)
    np.testing.assert_allclose(quarters, 0.25, atol=0.03)
    times = np.bincount(own, minlength=labelled)
    assert times.max() - times.min() == 1


@pytest.mark.parametrize("arm", ["scratch", "rhodin"])
def test_labelled_images_are_learned_by_heart(arm: str, crops: Path, tmp_path: Path) -> None:
    schedule = replace(RECIPE.schedule, steps=240 if arm == "rhodin" else 120)
    network = train(crops, tmp_path, arm=arm, schedule=schedule)
    shards = CropShards.open(crops)
    rows = split_labels(shards.table, subjects=[1]).train
    truth = shards.table["joints_mm"][rows]
    found = network(torch.from_numpy(shards.images[rows]).float().div(255).movedim(3, 1)).detach().numpy()
    blind = np.broadcast_to(truth.mean(0), truth.shape)
    assert pose_report(found, truth)["mpjpe_17_mm"] < 0.5 * pose_report(blind, truth)["mpjpe_17_mm"]
    points, _ = embed(network.arm, shards, rows)  # what later stages have: the encoder and the head apart
    np.testing.assert_allclose(apply_pose_head(network.head(), points), found, atol=0.5)


@pytest.mark.parametrize(("arm", "solved"), [("rhodin", 0), ("explicit+sync", 0), ("thesis", 1)])
def test_a_head_is_solved_for_arms_whose_points_are_no_places_alone(arm: str, solved: int) -> None:
    network, calls = PoseNetwork(make_encoder_decoder(arm=arm, crop_size_px=32, track="rgb")), []

    def solve() -> EquivariantPoseHead:
        calls.append(EquivariantPoseHead())
        torch.nn.init.normal_(calls[0].weight, std=1000.0)
        return calls[0]

    network.start(solve)
    assert len(calls) == solved
    for head in calls:
        torch.testing.assert_close(network.head().weight, head.weight)


def test_the_mode_that_an_arm_comes_in_changes_nothing(crops: Path, tmp_path: Path) -> None:
    one_step = replace(RECIPE.schedule, steps=1, warmup_steps=0)
    one, other = (
        train(crops, tmp_path / str(mode), arm="rhodin", training=mode, schedule=one_step)
        for mode in (True, False)
    )
    assert same(one, other)


def test_nothing_is_read_of_unlabelled_joints_nor_of_anybody_else(crops: Path, tmp_path: Path) -> None:
    """Another set in which all joints but S1's are NaN, and all images but S1's and S5's are others."""
    other = write_fake_shards(tmp_path / "crops", frames=3)
    table = CropShards.open(other).table
    joints, roots = table["joints_mm"].copy(), table["root_world_mm"].copy()
    joints[table["subject"] != 1], roots[table["subject"] != 1] = np.nan, np.nan
    for name in ("images", "backgrounds", "masks", "masks_diff"):
        array = np.load(other / f"{name}.npy", mmap_mode="r+")
        array[table["subject"] > 5] = 255 - array[table["subject"] > 5]
        array.flush()
    write_table(other, {**table, "joints_mm": joints, "root_world_mm": roots})
    first, second = (
        train(crops, tmp_path / "first", unlabelled=(5,)),
        train(other, tmp_path / "second", unlabelled=(5,)),
    )
    assert same(first, second)


def test_the_rounds_change_the_network_and_a_finished_training_goes_on_from_its_files(
    crops: Path, tmp_path: Path
) -> None:
    alone = train(crops, tmp_path / "alone")
    first = train(crops, tmp_path / "first", unlabelled=(5, 6))
    fits = np.load(tmp_path / "first/scratch/fits_1.npy")
    again = train(crops, tmp_path / "first", unlabelled=(5, 6))
    assert same(first, again)
    assert not same(alone, first)
    assert fits.shape == (2 * 2 * 3, 4, 17, 3)
    assert np.isfinite(fits).all()
    header, *rows = (tmp_path / "first/curves.csv").read_text().splitlines()
    assert header == "round,step,total,heat,mpjpe_17_mm"
    assert [row.split(",")[:2] for row in rows] == [["0", "6"], ["1", "3"], ["2", "3"]]


def test_moves_are_left_out_beside_fits_alone(crops: Path, tmp_path: Path) -> None:
    moving = replace(RECIPE, augmentation=replace(RECIPE.augmentation, shift_std=0.1, zoom_std=0.2))
    still = replace(moving, moved_share=0.0)
    networks, fits = [], []
    for name, recipe in {"moving": moving, "still": still, "plain": RECIPE}.items():
        networks.append(train(crops, tmp_path / name, unlabelled=(5,), recipe=recipe))
        fits.append(np.load(tmp_path / name / "scratch/fits_1.npy", allow_pickle=False))
    np.testing.assert_array_equal(fits[0], fits[1])  # by the network that saw labels alone
    assert not np.array_equal(fits[0], fits[2])
    assert not same(networks[0], networks[1])


def test_heat_maps_make_other_fits_where_they_are_asked_for(crops: Path, tmp_path: Path) -> None:
    """As the network of the first round predicts them, with its heat maps or without."""
    shards = CropShards.open(crops)
    rows, views = split_labels(shards.table, subjects=[1]).train, shards.views(subjects=[5])
    first = train(crops, tmp_path / "first", schedule=replace(SHORT, steps=6))
    made = {}
    for heat_maps in (True, False):
        train(crops, tmp_path / str(heat_maps), unlabelled=(5,), heat_maps=heat_maps)
        made[heat_maps] = np.load(tmp_path / str(heat_maps) / "scratch/fits_1.npy", allow_pickle=False)
        predicted = predict_rows(first, shards, views.reshape(-1), heat_maps=heat_maps, device=CPU)
        expected = multiview_labels(
            predicted, shards, views=views, labelled=rows, placed_mm=labelled_joints(shards, rows),
            silhouettes=True,
        )  # fmt: skip
        np.testing.assert_array_equal(made[heat_maps], expected)
    assert not np.array_equal(made[True], made[False])


def test_without_a_first_share_the_pretexts_own_embeddings_say_where_joints_are(
    crops: Path, tmp_path: Path
) -> None:
    network = train(crops, tmp_path, arm="explicit", unlabelled=(5, 6), first_share=0.0)
    fits = np.load(tmp_path / "scratch/fits_1.npy", allow_pickle=False)
    shards = CropShards.open(crops)
    torch.manual_seed(0)
    arm = make_encoder_decoder(arm="explicit", crop_size_px=32, track="rgb").eval()
    rows, views = split_labels(shards.table, subjects=[1]).train, shards.views(subjects=[5, 6])
    head = EquivariantPoseHead()
    head.solve(embed(arm, shards, rows)[0], shards.table["joints_mm"][rows], ridge=RECIPE.ridge)
    predicted = torch.from_numpy(apply_pose_head(head, embed(arm, shards, views.reshape(-1))[0]))
    expected = multiview_labels(
        Predicted(predicted, None),
        shards,
        views=views,
        labelled=rows,
        placed_mm=labelled_joints(shards, rows),
        silhouettes=True,
    )
    np.testing.assert_array_equal(fits, expected)
    lines = (tmp_path / "curves.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["1", "2"]  # no round on labels alone
    assert all(bool(p.isfinite().all()) for p in network.parameters())


def test_an_image_and_its_mirror_are_predicted_alike(crops: Path) -> None:
    shards = CropShards.open(crops)
    torch.manual_seed(0)
    network = PoseNetwork(make_encoder_decoder(arm="scratch", crop_size_px=32, track="rgb"))
    found = predict_rows(network, shards, np.arange(5), heat_maps=True, device=CPU)
    assert found.joints_mm.shape == (5, 17, 3)
    assert (found.joints_mm[:, 0] == 0).all()
    mirrored = replace(
        shards,
        **{
            name: np.ascontiguousarray(getattr(shards, name)[:, :, ::-1]) for name in ("images", "masks_diff")
        },
    )
    seen = predict_rows(network, mirrored, np.arange(5), heat_maps=True, device=CPU)
    every = torch.ones(5, dtype=torch.bool)
    torch.testing.assert_close(mirror_joints(seen.joints_mm, every), found.joints_mm, atol=1e-2, rtol=1e-4)
    assert found.heat is not None and seen.heat is not None
    assert found.heat.shape == (5, 17, 8, 8)
    torch.testing.assert_close(found.heat.float().sum((2, 3)), torch.ones(5, 17), atol=1e-2, rtol=0)
    torch.testing.assert_close(seen.heat.flip(-1)[:, list(H36M_MIRROR)], found.heat)
    assert not torch.equal(seen.heat, found.heat)
    unasked = predict_rows(network, shards, np.arange(5), heat_maps=False, device=CPU)
    assert unasked.heat is None
    torch.testing.assert_close(unasked.joints_mm, found.joints_mm, atol=0, rtol=0)


def test_of_an_untrained_network_all_fused_joints_are_one_point(crops: Path) -> None:
    shards = CropShards.open(crops)
    torch.manual_seed(0)
    network = PoseNetwork(make_encoder_decoder(arm="scratch", crop_size_px=32, track="rgb"))
    rows, views = shards.rows(subjects=[1]), shards.views(subjects=[5])
    fits = multiview_labels(
        predict_rows(network, shards, views.reshape(-1), heat_maps=False, device=CPU), shards,
        views=views, labelled=rows, placed_mm=labelled_joints(shards, rows), silhouettes=False,
    )  # fmt: skip
    in_world = np.einsum("icjk,icpj->icpk", shards.table["R_world_to_crop"][views], fits)
    in_world += shards.table["centre_world_mm"][views][:, :, None]
    np.testing.assert_allclose(in_world, np.broadcast_to(in_world[:, :1], in_world.shape), atol=1e-2)
    np.testing.assert_allclose(fits[:, :, 0], shards.root_crop_mm(views), atol=1e-2)  # the crops' middles
