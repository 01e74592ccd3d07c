"""The body regressor: its start, what it can express, its file, and that its terms are wired right."""

import dataclasses

import numpy as np
import pytest
import torch
from pytorch3d.transforms import axis_angle_to_matrix, matrix_to_axis_angle, random_rotations

from capsule_body import capsule_body
from crop_fixtures import write_fake_shards
from geobody.body.joints_only import joints_only
from geobody.body.model import BodyModel
from geobody.config import SmplRegressor as Settings
from geobody.data.crops import CropShards
from geobody.data.surreal import SurrealPoses
from geobody.errors import DataError
from geobody.models.mean_body import MeanBody
from geobody.models.prior import PosePrior
from geobody.models.regressor import (
    BodyParams,
    SmplRegressor,
    apply_regressor,
    load_regressor,
    pose_body,
    posed_bodies,
    predict_body,
)
from geobody.models.regressor_prior import RegressorPrior
from geobody.models.regressor_report import RegressorReport
from geobody.models.regressor_training import (
    TERMS,
    BodyObjective,
    RegressorRecipe,
    last_losses,
    train_regressor,
    training_views,
)
from geobody.training.checkpoint import save_weights
from geobody.training.loop import Batch

UPRIGHT = np.diag([1.0, -1.0, -1.0]).astype(np.float32)  # facing the camera: body's y up is the crop's -y


def small(**changes) -> SmplRegressor:
    torch.manual_seed(0)
    return SmplRegressor(**{"n_points": 20, "n_appearance": 8, "hidden_units": 32, **changes})


def embeddings(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 20, 3)).astype(np.float32), rng.normal(size=(rows, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel(arrays=capsule_body())


def test_an_untrained_regressor_answers_with_the_mean_body():
    regressor = small()
    rotations, betas = random_rotations(24), torch.randn(10)
    regressor.set_start(rotations=rotations, betas=betas)
    found = apply_regressor(regressor, *embeddings(3))
    assert np.allclose(found["rotations"], rotations.expand(3, 24, 3, 3), atol=1e-5)
    assert np.allclose(found["betas"], betas.expand(3, 10), atol=1e-6)


def test_every_rotation_can_be_reached_half_turns_included():
    turned = torch.cat((random_rotations(21), axis_angle_to_matrix(torch.pi * torch.eye(3))))
    regressor = small()
    start = regressor.start.clone()
    regressor.set_start(rotations=turned, betas=torch.zeros(10))
    with torch.no_grad():
        regressor.head.bias.copy_(regressor.start - start)
        regressor.start.copy_(start)
    found = apply_regressor(regressor, *embeddings(2))["rotations"]
    assert np.allclose(found, turned.expand(2, 24, 3, 3), atol=1e-5)


def test_posed_bodies_are_in_mm_about_the_root_and_turn_with_the_crop(body):
    turn = random_rotations(1)
    rotations = torch.eye(3).repeat(1, 24, 1, 1)
    betas = torch.randn(1, 10)
    straight = pose_body(body, BodyParams(rotations, betas))
    rotations[:, 0] = turn
    turned = pose_body(body, BodyParams(rotations, betas))
    assert straight.joints_mm[0, 0].abs().max() < 1e-3
    assert 1500 < np.ptp(straight.vertices_mm[0, :, 1].numpy()) < 2100
    assert torch.allclose(turned.vertices_mm[0], straight.vertices_mm[0] @ turn[0].T, atol=0.1)
    many = {"rotations": rotations.repeat(300, 1, 1, 1).numpy(), "betas": betas.repeat(300, 1).numpy()}
    batched = posed_bodies(body, **many)
    assert batched["vertices_mm"].shape == (300, body.num_vertices, 3)
    assert np.allclose(batched["joints17_mm"][299], turned.joints_mm[0].numpy(), atol=0.01)


def test_a_saved_regressor_predicts_the_same_and_refuses_other_embeddings(tmp_path):
    regressor = small().eval()
    torch.nn.init.normal_(regressor.head.weight, std=0.1)
    path = tmp_path / "smpl_regressor.safetensors"
    save_weights(path, regressor, {"n_points": 20, "n_appearance": 8, "hidden_units": 32})
    l3d, lapp = embeddings(7)
    expected = apply_regressor(regressor, l3d, lapp)
    found = predict_body(path, l3d, lapp)
    assert found["rotations"].shape == (7, 24, 3, 3) and found["betas"].shape == (7, 10)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    assert np.allclose(found["rotations"] @ found["rotations"].swapaxes(-1, -2), np.eye(3), atol=1e-5)
    with pytest.raises(DataError, match="takes embeddings"):
        predict_body(path, l3d[:, :10], lapp)
    with pytest.raises(DataError, match="takes embeddings"):
        predict_body(path, l3d, lapp[:3])
    save_weights(path, regressor.head, {"n_points": 20, "n_appearance": 8, "hidden_units": 32})
    with pytest.raises(DataError, match="no body regressor"):
        load_regressor(path)


def test_appearance_can_be_left_out():
    regressor = small(n_appearance=0)
    torch.nn.init.normal_(regressor.head.weight, std=0.1)
    l3d, lapp = embeddings(4)
    assert np.array_equal(
        apply_regressor(regressor, l3d, lapp)["betas"], apply_regressor(regressor, l3d, lapp + 1)["betas"]
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory, body):
    """Shards in which the mean body is the truth: its joints and its masks, seen by four cameras."""
    shards = CropShards.open(write_fake_shards(tmp_path_factory.mktemp("crops"), frames=3))
    l3d, lapp = embeddings(len(shards))
    R = shards.table["R_world_to_crop"]
    joints = shards.table["joints_mm"]
    # The embedding's points are the joints themselves, so that there is something to learn.
    l3d[:, :17] = joints / 300
    return shards, l3d, lapp, R


def recipe(**changes) -> RegressorRecipe:
    settings = {"steps": 25, "warmup_steps": 2, "hidden_units": 64, "batch_size": 16, "instants": 3,
                "raster_instants": 1, "supersample": 2, "appearance": True, "rehearsal_weight": 0.0}  # fmt: skip
    params = Settings(**settings | changes)
    return RegressorRecipe(schedule=params.schedule(), **params.beside_schedule("threads"))


def arguments(world, body, tmp_path, **changes):
    shards, l3d, lapp, _ = world
    pose = np.tile(np.eye(3, dtype=np.float32), (23, 1, 1))
    torch.manual_seed(5)  # the prior's weights
    return {
        "recipe": recipe(**changes), "shards": shards, "l3d": l3d, "lapp": lapp,
        "labelled": shards.rows(subjects=[1]), "held_out": np.arange(0), "subjects": None, "body": body,
        "joint_body": BodyModel(arrays=joints_only(capsule_body())), "prior": PosePrior().freeze(),
        "start": MeanBody(np.zeros(10, np.float32), pose, UPRIGHT), "seed": 0, "precision": "32-true",
        "threads": 1, "device": "cpu", "scratch": tmp_path, "curves": tmp_path / "curves.csv",
    }  # fmt: skip


def test_training_repeats_to_the_bit(world, body, tmp_path):
    _, l3d, lapp, _ = world
    results = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        regressor, _ = train_regressor(**arguments(world, body, tmp_path / name, steps=8))
        results.append(apply_regressor(regressor, l3d, lapp))
    assert all(np.array_equal(results[0][key], results[1][key]) for key in results[0])


def test_training_learns_the_labels_and_records_every_term(world, body, tmp_path):
    shards, l3d, lapp, _ = world
    regressor, config = train_regressor(**arguments(world, body, tmp_path, steps=70, learning_rate=3e-3))
    assert config["n_appearance"] == 8

    report = RegressorReport(shards=shards, l3d=l3d, lapp=lapp, body=body, regressor=regressor)
    trained = report.errors(shards.rows(subjects=[1]))
    start = small()
    upright = np.concatenate((UPRIGHT[None], np.tile(np.eye(3, dtype=np.float32), (23, 1, 1))))
    start.set_start(rotations=torch.from_numpy(upright), betas=torch.zeros(10))
    untrained = RegressorReport(shards=shards, l3d=l3d, lapp=lapp, body=body, regressor=start)
    before = untrained.errors(shards.rows(subjects=[1]))
    assert trained["mpjpe_17_mm"] < 0.7 * before["mpjpe_17_mm"]
    assert trained["iou_others"] > before["iou_others"]

    losses = last_losses(tmp_path / "curves.csv")
    assert set(losses) == {"total", *(f"{term}_{kind}" for term in TERMS for kind in ("raw", "weighted"))}
    assert losses["total"] == pytest.approx(sum(losses[f"{term}_weighted"] for term in TERMS), rel=1e-4)

    report.draw(tmp_path / "figure.png", rows=shards.rows(split="train"))
    assert (tmp_path / "figure.png").stat().st_size < 300_000


def objective(world, body, tmp_path, **changes) -> BodyObjective:
    given = arguments(world, body, tmp_path, **changes)
    names = ("recipe", "shards", "l3d", "lapp", "labelled", "body", "joint_body", "prior")
    chosen = {key: given[key] for key in names}
    regressor = small()
    start = given["start"]
    rotations = torch.from_numpy(np.concatenate((start.global_orient[None], start.body_pose)))
    regressor.set_start(rotations=rotations, betas=torch.zeros(10))
    views = given["shards"].views(split="train")
    chosen["prior"] = RegressorPrior(chosen["recipe"].prior, chosen["prior"])
    return BodyObjective(**chosen, views=views, regressor=regressor, device=torch.device("cpu"))


def a_batch() -> Batch:
    return Batch(np.arange(3), 20, "smpl_regressor", torch.Generator().manual_seed(3))


def test_terms_do_not_see_the_joints_of_others_nor_any_test_subject(world, body, tmp_path):
    shards, l3d, lapp, _ = world
    table = dict(shards.table)
    hidden = np.setdiff1d(np.arange(len(shards)), shards.rows(subjects=[1]))
    table["joints_mm"] = table["joints_mm"].copy()
    table["joints_mm"][hidden] = np.nan
    masked = dataclasses.replace(shards, table=table, masks=np.array(shards.masks))
    test = shards.rows(split="test")
    masked.masks[test] = 255
    l3d = l3d.copy()
    l3d[test] = np.nan
    terms = [objective(given, body, tmp_path)(a_batch()) for given in (world, (masked, l3d, lapp, None))]
    assert terms[0].keys() == terms[1].keys()
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in terms[0])
    assert torch.isfinite(terms[1]["total"])


def test_an_embedding_and_its_label_turn_alike(world, body, tmp_path):
    """A regressor that reads a direction off the embedding turns as the label does, whatever the share."""

    class Facing(SmplRegressor):
        """The body as it stands, turned by the rotation that the first three points are the columns of."""

        def forward(self, l3d: torch.Tensor, lapp: torch.Tensor) -> BodyParams:
            rotations = torch.eye(3).repeat(len(l3d), 24, 1, 1)
            rotations[:, 0] = l3d[:, :3].transpose(1, 2)
            return BodyParams(rotations, torch.zeros(len(l3d), 10))

    shards, l3d, lapp, R = world
    heading = random_rotations(len(shards))
    l3d = l3d.copy()
    l3d[:, :3] = heading.transpose(1, 2).numpy()
    table = dict(shards.table)
    standing = pose_body(
        BodyModel(arrays=joints_only(capsule_body())),
        BodyParams(torch.cat((heading[:, None], torch.eye(3).repeat(len(shards), 23, 1, 1)), 1),
                   torch.zeros(len(shards), 10)),
    ).joints_mm  # fmt: skip
    table["joints_mm"] = standing.double().numpy()
    facing = (dataclasses.replace(shards, table=table), l3d, lapp, R)
    losses = []
    seen = []
    for share in (0.0, 1.0):
        terms = objective(facing, body, tmp_path, turn_share=share)
        terms.regressor = Facing(n_points=20, n_appearance=8, hidden_units=32)
        terms.regressor.register_forward_pre_hook(lambda _, given: seen.append(given[0][:16, :3].clone()))
        losses.append(float(terms(a_batch())["pose_raw"]))
    assert max(losses) < 1e-4
    assert (seen[0] - seen[1]).flatten(1).norm(dim=1).min() > 1e-3  # everyone was turned


def test_a_body_is_put_where_its_root_is_though_the_crops_axis_misses_it(world, body, tmp_path):
    """A crop's camera that is swung aside sees the body by so much beside the middle."""
    shards, l3d, lapp, _ = world
    swing = axis_angle_to_matrix(torch.tensor([0.0, 0.06, 0.0])).double().numpy()
    table = dict(shards.table)
    table["R_world_to_crop"] = swing @ shards.table["R_world_to_crop"]
    table["joints_mm"] = shards.table["joints_mm"] @ swing.T
    moved = dataclasses.replace(shards, table=table)
    straight, swung = (
        RegressorReport(shards=given, l3d=l3d, lapp=lapp, body=body, regressor=small())
        for given in (shards, moved)
    )
    rows = shards.rows(subjects=[1])[:2]
    vertices = straight._vertices(rows)
    before, after = straight._silhouettes(rows, vertices), swung._silhouettes(rows, vertices @ swing.T)
    shift_px = np.tan(0.06) * shards.table["focal_px"][rows]
    for k in range(len(rows)):
        x = np.arange(shards.crop_size_px)
        middle = [float((drawn[k].sum(0) * x).sum() / drawn[k].sum()) for drawn in (before, after)]
        assert middle[1] - middle[0] == pytest.approx(shift_px[k], rel=0.1)


def test_the_objective_judges_a_body_where_its_root_is(world, body, tmp_path):
    """A body that is predicted in its own view stays as it is and goes along with the root alone."""
    shards, l3d, lapp, _ = world
    table = dict(shards.table)
    table["root_world_mm"] = shards.table["root_world_mm"] + [0.0, 0.0, 250.0]
    raised = dataclasses.replace(shards, table=table)
    placed = []
    for given in (shards, raised):
        terms = objective((given, l3d, lapp, None), body, tmp_path)
        draw = terms.renderer
        terms.renderer = lambda bodies, focal, draw=draw: (placed.append(bodies), draw(bodies, focal))[1]
        terms(a_batch())
    up = shards.table["R_world_to_crop"][terms.views[0]] @ [0, 0, 250.0]
    expected = torch.from_numpy(up).float()[:, None].expand_as(placed[0])
    torch.testing.assert_close(placed[1] - placed[0], expected, atol=0.01, rtol=0)


def test_masks_and_embeddings_of_held_out_instants_change_nothing(world, body, tmp_path):
    shards, l3d, lapp, _ = world
    instant = shards.table["instant"]
    held_out = np.flatnonzero(instant == instant[shards.rows(subjects=[1])[-1]])
    labelled = np.setdiff1d(shards.rows(subjects=[1]), held_out)
    changed = dataclasses.replace(shards, masks=np.array(shards.masks))
    changed.masks[held_out] = 255
    poisoned = l3d.copy()
    poisoned[held_out] += 1
    found = {}
    for said, kept_back in (("kept", held_out), ("used", np.arange(0))):
        for number, given in enumerate(((shards, l3d), (changed, poisoned))):
            folder = tmp_path / f"{said}{number}"
            folder.mkdir()
            names = arguments((*given, lapp, None), body, folder, steps=8)
            regressor, _ = train_regressor(**names | {"labelled": labelled, "held_out": kept_back})
            found[said, number] = regressor.head.weight.detach()
    assert torch.equal(found["kept", 0], found["kept", 1])
    assert not torch.equal(found["used", 0], found["used", 1])
    views = training_views(shards, held_out=held_out[:1])  # all views of an instant go with one of them
    assert len(views) == len(shards.views(split="train")) - 1
    assert not np.isin(held_out, views).any()
    of_one = training_views(shards, held_out=held_out[:0], subjects=[1])
    assert np.array_equal(of_one, shards.views(split="train", subjects=[1]))


def test_a_group_whose_instants_no_camera_pair_shares_is_reported_without_overlaps(world, body):
    shards, l3d, lapp, _ = world
    table = dict(shards.table)
    table["instant"] = np.where(table["subject"] == 1, 1000 + np.arange(len(shards)), table["instant"])
    lonely = dataclasses.replace(shards, table=table)
    report = RegressorReport(shards=lonely, l3d=l3d, lapp=lapp, body=body, regressor=small())
    assert set(report.errors(shards.rows(subjects=[1]))) == {"mpjpe_17_mm", "n_mpjpe_17_mm"}
    assert {"iou_input", "iou_others"} < set(report.errors(shards.rows(subjects=[5])))


def test_agreement_waits_and_rises(world):
    waiting = recipe(steps=100, agreement_start=0.2, agreement_weight=0.4)
    assert [round(waiting.weight("agreement", step), 6) for step in (0, 20, 30, 40, 99)] == [
        0,
        0,
        0.2,
        0.4,
        0.4,
    ]
    assert waiting.weight("pose", 0) == waiting.pose_weight


def test_the_thesis_outputs_stay_within_one_radian_of_facing_the_camera():
    regressor = small(outputs="tanh")
    with torch.no_grad():
        regressor.head.weight.normal_(std=30.0)
    params = regressor.eval()(torch.randn(40, 20, 3), torch.randn(40, 8))
    root = torch.from_numpy(UPRIGHT) @ params.rotations[:, 0]
    angles = torch.stack([matrix_to_axis_angle(r) for r in (root, params.rotations[:, 5])])
    assert angles.abs().max() <= 1 + 1e-5
    assert params.betas.abs().max() <= 1
    with torch.no_grad():
        regressor.head.weight.zero_()
    params = regressor(torch.randn(2, 20, 3), torch.randn(2, 8))
    torch.testing.assert_close(params.rotations[:, 0], torch.from_numpy(UPRIGHT).expand(2, 3, 3))


def test_the_thesis_outputs_train(world, body, tmp_path):
    settings = {
        "outputs": "tanh",
        "joints": "without_hips",
        "mask_loss": "bce",
        "mask_views": "own",
        "supersample": 1,
    }
    train_regressor(**arguments(world, body, tmp_path, steps=60, learning_rate=3e-3, **settings))
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    column = rows[0].split(",").index("pose_raw")
    first, last = (float(row.split(",")[column]) for row in (rows[1], rows[-1]))
    assert last < first


def real_bodies() -> SurrealPoses:
    rng = np.random.default_rng(0)
    return SurrealPoses(
        body_pose=rng.normal(0, 0.2, (50, 23, 3)).astype(np.float32),
        root=rng.normal(0, 0.2, (50, 3)).astype(np.float32),
        betas=rng.normal(size=(50, 10)).astype(np.float32),
        sequence_id=np.zeros(50, np.int32),
        sequences=("01_01",),
        n_dropped=0,
    )


@pytest.mark.parametrize("kind", ["along", "hmr", "thesis"])
def test_a_prior_that_trains_along_learns_from_real_bodies(world, body, tmp_path, kind):
    real = real_bodies()
    given = arguments(world, body, tmp_path, steps=3, prior=kind)
    with pytest.raises(ValueError, match="need real bodies"):
        train_regressor(**given)
    given = arguments(world, body, tmp_path, steps=30, prior=kind)
    regressor, _ = train_regressor(**given, real=real)
    assert torch.isfinite(regressor.head.weight).all()
    (tmp_path / "other").mkdir()
    given = arguments(world, body, tmp_path / "other", steps=30, prior=kind)
    others = dataclasses.replace(real, body_pose=2 * real.body_pose, betas=real.betas + 1)
    taught, _ = train_regressor(**given, real=others)
    assert not torch.equal(regressor.head.weight, taught.head.weight)
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert "prior_total" in rows[0] and "smpl_regressor_prior_raw" in rows[0]


def test_a_label_at_the_hips_counts_only_when_all_joints_do(world, body, tmp_path):
    shards, l3d, lapp, R = world
    table = dict(shards.table)
    table["joints_mm"] = table["joints_mm"].copy()
    table["joints_mm"][:, [1, 4, 7]] += 200.0
    moved = (dataclasses.replace(shards, table=table), l3d, lapp, R)
    for joints, same in (("all", False), ("without_hips", True)):
        pair = [objective(w, body, tmp_path, joints=joints)(a_batch())["pose_raw"] for w in (world, moved)]
        assert torch.equal(*pair) == same


def test_a_body_is_judged_by_the_mask_of_its_own_view_or_by_all(world, body, tmp_path):
    """The first camera's masks are emptied: with own views alone the other cameras' bodies do not notice."""
    shards = world[0]
    masks = np.array(shards.masks)
    masks[shards.rows(cameras=[1])] = 0
    bodies, pulled = torch.nn.Parameter(torch.zeros(12, 10)), {}

    class Fixed(SmplRegressor):
        """Bodies whose betas can be asked for their gradient, one for each view of the batch."""

        def forward(self, l3d: torch.Tensor, lapp: torch.Tensor) -> BodyParams:
            rotations = torch.eye(3).repeat(len(l3d), 24, 1, 1)
            rotations[:, 0] = torch.from_numpy(UPRIGHT)
            return BodyParams(rotations, torch.cat((torch.zeros(16, 10), bodies)))

    for views in ("own", "all"):
        for name, some in (("seen", shards), ("hidden", dataclasses.replace(shards, masks=masks))):
            terms = objective((some, *world[1:]), body, tmp_path, mask_views=views)
            terms.regressor = Fixed(n_points=20, n_appearance=8, hidden_units=32)
            weights = dict.fromkeys((f"{term}_weight" for term in TERMS), 0.0) | {"far_weight": 1.0}
            terms.recipe = dataclasses.replace(terms.recipe, **weights)
            (slope,) = torch.autograd.grad(terms(a_batch())["total"], bodies)
            pulled[views, name] = slope.norm(dim=1).view(3, 4) > 0
    assert pulled["own", "seen"].all()
    assert not pulled["own", "hidden"][:, 0].any() and pulled["own", "hidden"][:, 1:].all()
    # One view of each instant is judged, by all masks.
    assert pulled["all", "seen"].sum(1).tolist() == pulled["all", "hidden"].sum(1).tolist() == [1, 1, 1]


def test_networks_of_a_prior_start_from_the_seed_alone(world, body, tmp_path):
    real = real_bodies()
    heads = []
    for number, (stray, seed) in enumerate(((0, 0), (5, 0), (0, 1))):
        folder = tmp_path / str(number)
        folder.mkdir()
        given = arguments(world, body, folder, steps=4, prior="hmr") | {"seed": seed}
        torch.rand(stray)
        heads.append(train_regressor(**given, real=real)[0].head.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
