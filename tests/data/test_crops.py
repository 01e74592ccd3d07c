import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crop_fixtures import write_fake_shards
from geobody.data.backgrounds import write_backgrounds
from geobody.data.cropping import CropSettings, Warp, oversampling, virtual_camera, write_crops
from geobody.data.crops import CropShards
from geobody.data.index import Index, build_index
from geobody.errors import DataError, ParamsError
from geobody.geometry.cameras import Camera, VirtualCamera, look_at, project_crop, rotation_error
from h36m_tree import camera_of, opencv_project, poses, write_tree
from stage_runner import run_stage

LENS = {"k": np.array([[-0.2, 0.05, 0.001]]), "p": np.array([[0.001, -0.002]])}
SETTINGS = CropSettings(
    size_px=48,
    centre="root",
    mask_box_mm=1600.0,
    roll_std_deg=0.0,
    seed=0,
    difference_threshold=8.0,
    difference_noise_factor=4.0,
)


def prepare(folder, **kwargs):
    """A tree with its index and backgrounds; returns (tree, index, folder of backgrounds)."""
    tree = write_tree(folder, **{"subjects": (1, 9), "frames": 9, **kwargs})
    build_index(
        manifest=tree.manifest,
        output=folder / "index",
        train_subjects=(1,),
        test_subjects=(9,),
    )
    index = Index.open(folder / "index")
    write_backgrounds(index, root=tree.root, output=folder / "backgrounds", frames=9, jobs=1)
    return tree, index, folder / "backgrounds"


def crop(prepared, output, *, jobs=1, **changes):
    tree, index, backgrounds = prepared
    return write_crops(
        index,
        root=tree.root,
        backgrounds=backgrounds,
        output=output,
        settings=CropSettings(**{**vars(SETTINGS), **changes}),
        jobs=jobs,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def bent(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("bent"), extra=LENS, layout="matlab")


def make_camera(distortion=None):
    return Camera(
        R_world_to_cam=np.eye(3),
        centre_world_mm=np.zeros(3),
        focal_px=np.array([300.0, 305.0]),
        principal_px=np.array([130.2, 124.9]),
        width_px=256,
        height_px=250,
        distortion=distortion,
    )


# The warp


@pytest.mark.parametrize("distortion", [None, np.array([-0.2, 0.05, 0.0, 0.001, -0.002])])
@pytest.mark.parametrize("roll_deg", [0, 30])
def test_pixels_are_where_their_centres_say(distortion, roll_deg):
    """An image whose colour is its own coordinate, warped, shows each crop pixel's place to 1/20 pixel.

    Half a pixel of confusion about where pixels have their centres would be ten times that.
    """
    camera = make_camera(distortion)
    root = np.array([150.0, -80.0, 4300.0])
    virtual = VirtualCamera(look_at(root, roll_rad=np.deg2rad(roll_deg)), float(np.linalg.norm(root)), 64)
    x, y = np.meshgrid(np.arange(256), np.arange(250))
    samples = oversampling(camera, virtual)
    warp = Warp(camera, virtual, samples=samples)
    fields = {"k": distortion[:3], "p": distortion[3:]} if distortion is not None else {}
    opencv = {
        "R": np.eye(3),
        "T": np.zeros(3),
        "f": camera.focal_px[None],
        "c": camera.principal_px[None],
        **fields,
    }
    u, v = np.meshgrid(np.arange(64), np.arange(64))
    rays = np.stack([(u - 31.5), (v - 31.5), np.full_like(u, virtual.focal_px, float)], -1).reshape(-1, 3)
    expected = opencv_project(rays @ virtual.R_cam_to_crop, opencv).reshape(64, 64, 2)
    for axis, coordinate in ((0, x), (1, y)):
        big = warp(coordinate.astype(np.uint8), outside="replicate").astype(np.float32)
        seen = cv2.resize(big, (64, 64), interpolation=cv2.INTER_AREA)
        error = (seen - expected[..., axis])[4:-4, 4:-4]
        inside = ((expected > 2) & (expected < 247)).all(-1)[4:-4, 4:-4]
        assert inside.sum() > 2000
        assert abs(error[inside].mean()) < 0.05
        assert np.abs(error[inside]).max() < 0.6


def test_a_sub_pixel_shift_of_the_scene_shows_in_the_crop():
    """A blurred dot drawn about a point between pixels has its centre of mass on that point's crop pixel."""
    camera = make_camera()
    root = np.array([100.0, 50.0, 4000.0])
    virtual = VirtualCamera(look_at(root, roll_rad=0.2), float(np.linalg.norm(root)), 64)
    warp = Warp(camera, virtual, samples=oversampling(camera, virtual))
    x, y = np.meshgrid(np.arange(256), np.arange(250))
    for offset in ([0, 0, 0], [33, 11, 0], [-61, 47, 100], [410, -390, 0]):
        point = root + offset
        px, py = camera.project(point)
        image = np.rint(255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 4.0**2))).astype(np.uint8)
        small = cv2.resize(warp(image, outside="zero"), (64, 64), interpolation=cv2.INTER_AREA).astype(float)
        u, v = np.meshgrid(np.arange(64), np.arange(64))
        found = np.array([(small * u).sum(), (small * v).sum()]) / small.sum()
        X, Y, Z = virtual.R_cam_to_crop @ point
        expected = np.array([X, Y]) / Z * virtual.focal_px + 31.5
        np.testing.assert_allclose(found, expected, atol=0.03)


def test_fine_patterns_are_averaged_not_sampled():
    """A checkerboard of single pixels, seen seven to a crop pixel, must come out grey, not as moire."""
    camera = Camera(np.eye(3), np.zeros(3), np.array([1145.0] * 2), np.array([500.0] * 2), 1000, 1000)
    virtual = VirtualCamera(np.eye(3), 5000.0, 64)
    samples = oversampling(camera, virtual)
    x, y = np.meshgrid(np.arange(1000), np.arange(1000))
    board = (255 * ((x // 2 + y // 2) % 2)).astype(np.uint8)
    warp = Warp(camera, virtual, samples=samples)
    small = cv2.resize(warp(board, outside="replicate"), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - 127.5).max() < 30
    assert small.astype(float).std() < 8


def test_outside_the_image_masks_are_empty_and_images_go_on():
    camera = make_camera()
    root = np.array([-1900.0, 0.0, 4500.0])
    virtual = VirtualCamera(look_at(root), float(np.linalg.norm(root)), 64)
    warp = Warp(camera, virtual, samples=1)
    white = np.full((250, 256), 255, np.uint8)
    assert not warp.inside
    valid = warp.valid()
    assert valid is not None
    assert 0.2 < valid.mean() < 0.9
    assert (warp(white, outside="replicate") == 255).all()
    np.testing.assert_array_equal(warp(white, outside="zero") > 127, valid)
    centred = VirtualCamera(np.eye(3), 9000.0, 16)
    assert Warp(camera, VirtualCamera(look_at([0, 0, 4500.0]), 4500.0, 16), samples=1).valid() is None
    assert oversampling(camera, centred) == np.ceil(305 / (16 * 9000 / 2000) / 1.5)


# The shards


@pytest.mark.parametrize("which", ["plain", "bent"])
@pytest.mark.parametrize("roll_std_deg", [0.0, 20.0])
def test_joints_lie_where_opencv_puts_them_and_on_the_mask(which, roll_std_deg, request, tmp_path):
    _, index, _ = prepared = request.getfixturevalue(which)
    crop(prepared, tmp_path / "crops", roll_std_deg=roll_std_deg)
    shards = CropShards.open(tmp_path / "crops")
    table = shards.table
    assert table["key"].tolist() == index.column("key").tolist()
    on_mask = []
    for i in range(0, len(shards), 5):
        world = poses(int(table["subject"][i]), int(table["action"][i]), 9)[table["frame"][i] - 1]
        in_crop = (world - table["centre_world_mm"][i]) @ table["R_world_to_crop"][i].T
        np.testing.assert_allclose(in_crop[0], [0, 0, table["depth_mm"][i]], atol=2e-3)
        np.testing.assert_allclose(table["joints_mm"][i], in_crop - in_crop[0], atol=2e-3)
        np.testing.assert_allclose(table["root_world_mm"][i], world[0], atol=1e-3)
        assert rotation_error(table["R_world_to_crop"][i]) < 1e-9
        assert table["focal_px"][i] == pytest.approx(48 * table["depth_mm"][i] / 2000)
        pixels = table["focal_px"][i] * in_crop[:, :2] / in_crop[:, 2:] + 23.5
        np.testing.assert_allclose(pixels[0], [23.5, 23.5], atol=1e-4)
        visible = ((pixels > 1) & (pixels < 46)).all(-1)
        columns, rows = np.rint(pixels[visible]).astype(int).T
        on_mask.append(shards.masks[i][rows, columns] > 100)
    assert np.concatenate(on_mask).mean() > 0.97


def test_rolls_belong_to_the_image_and_have_the_spread_asked_for(plain, tmp_path):
    tables = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        crop(plain, tmp_path / name, roll_std_deg=10.0, seed=seed)
        tables.append(CropShards.open(tmp_path / name).table)
    crop(plain, tmp_path / "level", roll_std_deg=0.0)
    level = CropShards.open(tmp_path / "level").table["R_world_to_crop"]
    turns = [table["R_world_to_crop"] @ np.swapaxes(level, -1, -2) for table in tables]
    angles = [np.rad2deg(np.arctan2(turn[:, 1, 0], turn[:, 0, 0])) for turn in turns]
    np.testing.assert_allclose([turn[:, 2, 2] for turn in turns], 1, atol=1e-9)
    np.testing.assert_array_equal(angles[0], angles[1])
    assert np.abs(angles[0] - angles[2]).max() > 1
    assert 8 < np.std(angles[0]) < 12.5
    assert abs(np.mean(angles[0])) < 4


def test_a_subset_of_the_images_gets_the_same_crops(plain, tmp_path):
    """What else is in the data set changes no crop: rolls come from keys, not from row numbers."""
    tree, index, backgrounds = plain
    crop(plain, tmp_path / "all", roll_std_deg=10.0)
    part = Index(index.images.slice(5, 11), index.folders, index.cameras)
    crop((tree, part, backgrounds), tmp_path / "part", roll_std_deg=10.0)
    everything, some = CropShards.open(tmp_path / "all"), CropShards.open(tmp_path / "part")
    np.testing.assert_array_equal(some.images, everything.images[5:16])
    np.testing.assert_array_equal(some.table["R_world_to_crop"], everything.table["R_world_to_crop"][5:16])


def test_bytes_are_the_same_for_any_number_of_workers(plain, tmp_path):
    figures = [crop(plain, tmp_path / str(jobs), jobs=jobs, roll_std_deg=5.0) for jobs in (1, 2)]
    assert figures[0] == figures[1]
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == ["backgrounds.npy", "crops.parquet", "images.npy", "masks.npy", "masks_diff.npy"]
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_pictures_are_rgb_and_backgrounds_show_the_room(plain, tmp_path):
    """Where nobody stands, image and background agree; on the person they do not."""
    crop(plain, tmp_path / "crops")
    shards = CropShards.open(tmp_path / "crops")
    difference = np.abs(shards.images.astype(int) - shards.backgrounds).max(-1)
    assert np.median(difference[shards.masks == 0]) <= 4
    assert np.median(difference[shards.masks == 255]) > 40
    people = shards.images[shards.masks == 255]
    assert (people[:, 2].astype(int) - people[:, 0]).mean() == pytest.approx(20, abs=4)


def test_difference_masks_find_the_person(plain, tmp_path):
    figures = crop(plain, tmp_path / "crops")
    shards = CropShards.open(tmp_path / "crops")
    a, b = shards.masks > 127, shards.masks_diff > 127
    iou = (a & b).sum((1, 2)) / (a | b).sum((1, 2))
    assert figures["difference_mask_iou"]["mean"] == pytest.approx(iou.mean())
    assert iou.mean() > 0.7


def test_without_masks_the_difference_stands_in(plain, tmp_path):
    tree, index, backgrounds = plain
    none = pa.nulls(len(index), pa.string())
    unmasked = Index(index.images.set_column(3, "mask", none), index.folders, index.cameras)
    figures = crop((tree, unmasked, backgrounds), tmp_path / "crops")
    shards = CropShards.open(tmp_path / "crops")
    np.testing.assert_array_equal(shards.masks, shards.masks_diff)
    assert figures["dataset_masks"] == 0
    assert "difference_mask_iou" not in figures
    with pytest.raises(ParamsError, match=r"crops\.centre: mask"):
        crop((tree, unmasked, backgrounds), tmp_path / "other", centre="mask")
    assert not (tmp_path / "other").exists()


def test_centre_mask_takes_nothing_from_the_labels(plain, tmp_path):
    """The box's middle is in the middle, its longer side has the length that was said."""
    crop(plain, tmp_path / "crops", centre="mask", mask_box_mm=1500.0)
    shards = CropShards.open(tmp_path / "crops")
    for mask in shards.masks[::3]:
        rows, columns = np.nonzero(mask > 127)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert max(height, width) == pytest.approx(1500 / 2000 * 48, abs=2)
        assert (rows.max() + rows.min()) / 2 == pytest.approx(23.5, abs=1.5)
        assert (columns.max() + columns.min()) / 2 == pytest.approx(23.5, abs=1.5)
    camera = make_camera()
    mask = np.zeros((250, 256), np.uint8)
    mask[100:160, 90:120] = 255
    cameras = [
        virtual_camera(
            camera,
            root_cam_mm=np.array(root),
            mask=mask,
            roll_rad=0.0,
            settings=CropSettings(**{**vars(SETTINGS), "centre": "mask"}),
        )
        for root in ([0, 0, 4000.0], [900, 200, 2000.0])
    ]
    np.testing.assert_array_equal(cameras[0].R_cam_to_crop, cameras[1].R_cam_to_crop)
    assert cameras[0].depth_mm == cameras[1].depth_mm


@pytest.mark.parametrize("centre", ["root", "mask"])
def test_the_root_is_where_the_crops_camera_sees_it(plain, tmp_path, centre):
    """The persons of the tree are drawn along their joints: moved to the root, these lie on the mask."""
    crop(plain, tmp_path / "crops", centre=centre, mask_box_mm=1500.0)
    shards = CropShards.open(tmp_path / "crops")
    rows = np.arange(len(shards))
    root = shards.root_crop_mm(rows)
    np.testing.assert_array_equal(shards.root_crop_mm(rows.reshape(2, -1)), root.reshape(2, -1, 3))
    axis = np.zeros_like(root)
    axis[:, 2] = shards.table["depth_mm"]
    if centre == "root":
        np.testing.assert_allclose(root, axis, atol=1e-9)
    else:
        assert np.abs(root - axis)[:, :2].max() > 30
    for i in rows[::5]:
        xy = project_crop(
            shards.table["joints_mm"][i] + root[i],
            focal_px=shards.table["focal_px"][i],
            crop_size_px=shards.crop_size_px,
        )
        column, row = np.clip(np.rint(xy).astype(int), 0, shards.crop_size_px - 1).T
        assert (shards.masks[i][row, column] > 127).mean() > 0.9


# Reading


def test_rows_and_views_of_shards(tmp_path):
    shards = CropShards.open(write_fake_shards(tmp_path / "crops"))
    table = shards.table
    assert len(shards) == 7 * 2 * 2 * 4
    assert shards.crop_size_px == 32
    np.testing.assert_array_equal(
        shards.rows(split="test"), np.flatnonzero(np.isin(table["subject"], [9, 11]))
    )
    np.testing.assert_array_equal(
        shards.rows(subjects=[1, 9], split="train", cameras=[2]),
        np.flatnonzero((table["subject"] == 1) & (table["camera"] == 2)),
    )
    views = shards.views()
    assert views.shape == (28, 4)
    assert (table["camera"][views] == [1, 2, 3, 4]).all()
    assert (table["instant"][views] == table["instant"][views][:, :1]).all()
    assert shards.views(subjects=[5], split="train").shape == (4, 4)
    assert shards.views(subjects=[5], split="test").shape == (0, 4)
    assert not shards.images.flags.writeable
    assert isinstance(shards.images, np.memmap)


def test_bodies_for_evaluation_alone_are_in_a_split_of_their_own(tmp_path):
    shards = CropShards.open(write_fake_shards(tmp_path / "crops", subjects=(1, 9, 101, 140)))
    subject = shards.table["subject"]
    for split, people in {"train": [1], "test": [9], "evaluation": [101, 140]}.items():
        np.testing.assert_array_equal(shards.rows(split=split), np.flatnonzero(np.isin(subject, people)))
        views = shards.views(split=split)
        assert len(views) == 4 * len(people) and np.isin(subject[views], people).all()


def test_views_leave_out_instants_that_a_camera_missed(tmp_path):
    path = write_fake_shards(tmp_path / "crops")
    full = CropShards.open(path)
    table = pq.read_table(path / "crops.parquet")
    keep = np.delete(np.arange(len(full)), 6)
    pq.write_table(table.take(keep), path / "crops.parquet")
    for name in ("images", "backgrounds", "masks", "masks_diff"):
        np.save(path / f"{name}.npy", np.load(path / f"{name}.npy")[keep])
    part = CropShards.open(path)
    lost = full.table["instant"][6]
    assert part.views().shape == (27, 4)
    assert lost not in part.table["instant"][part.views()]


@pytest.mark.parametrize("spoil", ["missing", "cut", "length", "kind", "table"])
def test_broken_shards_are_named(tmp_path, spoil):
    path = write_fake_shards(tmp_path / "crops")
    file = path / ("crops.parquet" if spoil == "table" else "masks.npy")
    if spoil == "missing":
        file.unlink()
    elif spoil in ("cut", "table"):
        file.write_bytes(file.read_bytes()[:1000])
    elif spoil == "length":
        np.save(file, np.load(file)[:-1])
    else:
        np.save(file, np.load(file).astype(np.float32))
    with pytest.raises(DataError, match=f"{file.name}: .*dvc repro crops"):
        CropShards.open(path)


# Bad input, through the stage as a user runs it.


def small_mask(tree):
    path = sorted(tree.masks.rglob("*.png"))[3]
    cv2.imwrite(str(path), np.zeros((60, 64), np.uint8))
    return path, ["is 64x60 pixels, not 128x120", "make it as large as its image"]


def lost_mask(tree):
    path = sorted(tree.masks.rglob("*.png"))[3]
    path.unlink()
    return path, ["cannot be read (No such file"]


def cut_image(tree):
    path = sorted(tree.images.rglob("*.jpg"))[3]
    path.write_bytes(path.read_bytes()[:-300])
    return path, ["is no whole JPEG"]


def empty_mask(tree):
    path = sorted(tree.masks.rglob("*.png"))[3]
    cv2.imwrite(str(path), np.zeros((120, 128), np.uint8))
    return path, ["shows nobody", "crops.centre"]


@pytest.mark.parametrize("spoil", [small_mask, lost_mask, cut_image, empty_mask])
def test_faulty_pictures_are_named_with_a_cure(tmp_path, spoil):
    prepared = prepare(tmp_path, frames=3, cameras=(1,))
    path, words = spoil(prepared[0])
    with pytest.raises(DataError) as caught:
        crop(prepared, tmp_path / "crops", centre="mask")
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message


def test_the_stage_writes_all_or_nothing(tmp_path):
    """A fault met by a worker: one line, exit 3, and the crops of the run before untouched."""
    tree, index, backgrounds = prepare(tmp_path, frames=3, cameras=(1, 2))
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    (tmp_path / "index").rename(work / "data" / "index")
    backgrounds.rename(work / "data" / "backgrounds")
    done = run_stage(tree, work, "crops", cameras=[1, 2])
    assert done.returncode == 0, done.stderr
    assert len(index) == 12
    assert "12 crops of 64 px around the root" in done.stdout
    assert json.loads((work / "metrics" / "crops.json").read_text())["images"] == 12
    assert (work / "metrics" / "figures" / "crops.png").stat().st_size < 300_000
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    path, _ = small_mask(tree)
    done = run_stage(tree, work, "crops", cameras=[1, 2])
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {path}: is 64x60 pixels")
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_camera_of_the_tree_sees_the_room():
    """The independent tree itself: x_cam = R (X - T), person in front and inside the picture."""
    for number in (1, 2, 3, 4):
        pixels = opencv_project(poses(1, 2, 9).reshape(-1, 3), camera_of(number))
        assert ((pixels > 0) & (pixels < [128, 120])).all(-1).mean() > 0.95
