"""From a .mat in either convention, with and without a lens, to the crop: OpenCV draws, the pipeline reads.

Every joint is a dot, drawn where ``cv2.projectPoints`` puts it; in the crop its centre must lie where the
crop's own virtual camera says.
"""

import cv2
import numpy as np
import pytest
import scipy.io

from geobody.data.backgrounds import write_backgrounds
from geobody.data.cropping import CropSettings, write_crops
from geobody.data.crops import CropShards
from geobody.data.index import Index, build_index
from geobody.data.manifest_writing import write_manifest
from geobody.geometry.cameras import project_crop
from h36m_tree import camera_of, opencv_project

LENS = {"k": np.array([[-0.2071, 0.2475, -0.0031]]), "p": np.array([[-0.0009, -0.0016]])}
SIZE, CROP = 1000, 256
SETTINGS = CropSettings(
    size_px=CROP, centre="root", mask_box_mm=1600.0, roll_std_deg=10.0, seed=0,
    difference_threshold=8.0, difference_noise_factor=4.0,
)  # fmt: skip


def camera(number):
    """About as Human3.6M's: 1000 x 1000 pixels, a focal length of 1145."""
    fields = camera_of(number, width=SIZE, height=SIZE)
    return {**fields, "f": np.array([[1145.0, 1143.8]]), "c": np.array([[512.5, 515.5]])}


def dots(fields, seed):
    """World points (17,3) that no two of lie near each other in the image; the first is the root."""
    rng = np.random.default_rng(seed)
    across, down = np.meshgrid([-700, -350, 0, 350, 700], [-700, -350, 0, 350, 700])
    grid = np.stack([across.ravel(), down.ravel(), rng.uniform(-500, 500, 25)], -1)
    grid[:, :2] += rng.uniform(-40, 40, (25, 2))
    chosen = np.r_[12, rng.permutation(np.delete(np.arange(25), 12))[:16]]
    return grid[chosen] @ fields["R"] + [*rng.uniform(-600, 600, 2), 950]


def draw(pixels):
    image = np.full((SIZE, SIZE, 3), 30, np.uint8)
    for x, y in pixels:
        cv2.circle(image, (round(x * 256), round(y * 256)), 9 * 256, (230, 230, 230), -1, cv2.LINE_AA, 8)
    return image


def dots_found(crop):
    """Centres (N,2) of the bright dots of a crop."""
    bright = np.clip(crop.mean(-1) - 60, 0, None)
    count, labels = cv2.connectedComponents((bright > 0).astype(np.uint8))
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]]
    return np.array(
        [
            [(bright * m * x).sum(), (bright * m * y).sum()] / (bright * m).sum()
            for m in (labels == i for i in range(1, count))
        ]
    )


def crops_of(folder, *, lens, convention, known_lens):
    """Crops of one image of each of four cameras, from files alone."""
    for number in (1, 2, 3, 4):
        name = f"s_01_act_02_subact_01_ca_{number:02d}"
        fields = {**camera(number), **(LENS if lens else {})}
        joints = dots(fields, number)
        (folder / "images" / name).mkdir(parents=True)
        cv2.imwrite(
            str(folder / "images" / name / f"{name}_000001.jpg"), draw(opencv_project(joints, fields))
        )
        if convention == "t":
            fields["t"] = (-fields["R"] @ fields.pop("T").reshape(3))[None]
        if not known_lens:
            fields = {key: value for key, value in fields.items() if key not in LENS}
        place = folder / "annotations" / name / "h36m_meta.mat"
        place.parent.mkdir(parents=True)
        scipy.io.savemat(place, {"pose3d_world": joints[None], **fields})
    manifest = folder / "manifest.parquet"
    write_manifest(manifest)
    build_index(manifest=manifest, output=folder / "index", train_subjects=(1,), test_subjects=())
    index = Index.open(folder / "index")
    write_backgrounds(index, root=folder, output=folder / "backgrounds", frames=1, jobs=1)
    write_crops(index, root=folder, backgrounds=folder / "backgrounds", output=folder / "crops",
                settings=SETTINGS, jobs=1)  # fmt: skip
    return CropShards.open(folder / "crops")


def errors_px(shards):
    """Distance (N,17) from where the virtual camera puts a joint to the dot that is drawn nearest."""
    errors = []
    for row in range(len(shards)):
        joints = shards.table["joints_mm"][row] + shards.root_crop_mm(np.array([row]))
        expected = project_crop(joints, focal_px=shards.table["focal_px"][row], crop_size_px=CROP)
        found = dots_found(np.asarray(shards.images[row]))
        assert len(found) == 17
        errors.append(np.linalg.norm(expected[:, None] - found, axis=-1).min(1))
    return np.array(errors)


@pytest.mark.parametrize("convention", ["T", "t"])
@pytest.mark.parametrize("lens", [False, True])
def test_dots_land_where_the_virtual_camera_says(tmp_path, lens, convention):
    shards = crops_of(tmp_path, lens=lens, convention=convention, known_lens=True)
    assert len(shards) == 4
    assert errors_px(shards).max() < 0.5


def test_a_lens_that_the_file_does_not_give_is_seen_in_the_crops(tmp_path):
    """So that the test above can tell an undistorted crop from a distorted one."""
    assert errors_px(crops_of(tmp_path, lens=True, convention="T", known_lens=False)).max() > 0.5
