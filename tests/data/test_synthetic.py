"""The synthetic set: Human3.6M's layout, joints on bodies, masks, truth, bytes that repeat."""

import errno
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
from scipy.spatial.transform import Rotation

from capsule_body import write_capsule_body
from geobody.body.model import BodyModel
from geobody.conventions import EVALUATION_SUBJECTS
from geobody.data import rooms, synthetic, synthetic_files
from geobody.data.h36m import SequenceName
from geobody.data.surreal import read_surreal
from geobody.data.synthetic_files import Performance
from geobody.errors import DataError
from geobody.render import scene

MOTIONS = Path(__file__).parents[2] / "data" / "motions"
SUBJECTS, ACTIONS, FRAMES, SIZE = (1, 9), (3, 9), 3, 128


def make(
    root: Path,
    body: Path,
    *,
    workers: int,
    motions: Path = MOTIONS,
    subjects: tuple[int, ...] = SUBJECTS,
    actions: tuple[int, ...] = ACTIONS,
    bodies: int = 0,
    poses: int = 0,
) -> list[Performance]:
    return synthetic.generate(
        images=root / "images",
        masks=root / "masks",
        body=body,
        motions=motions,
        seed=3,
        subjects=subjects,
        actions=actions,
        subactions=1,
        frames=FRAMES,
        fps=5.0,
        image_size_px=SIZE,
        jpeg_quality=90,
        noise_std=2.5,
        evaluation_bodies=bodies,
        evaluation_poses=poses,
        jobs=workers,
    )


def all_bytes(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("body") / "capsule.npz"
    write_capsule_body(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, body: Path) -> tuple[Path, list[Performance]]:
    root = tmp_path_factory.mktemp("made")
    performances = make(root, body, workers=1)
    synthetic_files.write_truth(root / "truth", performances)
    return root, performances


def folders(root: Path) -> list[Path]:
    return sorted((root / "images").iterdir())


def test_layout_is_human36m_s(made: tuple[Path, list[Performance]]) -> None:
    root, _ = made
    expected = [
        f"s_{s:02d}_act_{a:02d}_subact_01_ca_{c:02d}" for s in SUBJECTS for a in ACTIONS for c in (1, 2, 3, 4)
    ]
    assert [p.name for p in folders(root)] == expected
    assert [p.name for p in sorted((root / "masks").iterdir())] == expected
    for folder in folders(root):
        names = [f"{folder.name}_{n:06d}" for n in range(1, FRAMES + 1)]
        assert sorted(p.name for p in folder.iterdir()) == sorted(
            ["h36m_meta.mat", *(f"{n}.jpg" for n in names)]
        )
        masks = root / "masks" / folder.name
        assert sorted(p.name for p in masks.iterdir()) == [f"{n}.png" for n in names]


def test_mat_holds_cameras_and_poses(made: tuple[Path, list[Performance]]) -> None:
    root, _ = made
    centres = {}
    for folder in folders(root):
        meta = scipy.io.loadmat(folder / "h36m_meta.mat")
        fields = {name for name in meta if not name.startswith("__")}
        assert fields == {"pose3d_world", "R", "T", "f", "c", "img_width", "img_height"}  # theta is not told
        assert meta["pose3d_world"].shape == (FRAMES, 17, 3)
        assert meta["T"].shape == (1, 3)
        assert meta["f"].shape == meta["c"].shape == (1, 2)
        assert meta["img_width"].item() == meta["img_height"].item() == SIZE
        np.testing.assert_allclose(meta["R"] @ meta["R"].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(meta["R"]) == pytest.approx(1)
        # T is the camera's centre: 4.2 to 4.8 m from the middle, at eye height.
        assert 4200 < np.hypot(*meta["T"][0, :2]) < 4800
        assert 1200 <= meta["T"][0, 2] <= 1800
        centres[folder.name[:4], folder.name[-2:]] = tuple(meta["T"][0])
    assert len(set(centres.values())) == len(SUBJECTS) * 4


def test_header_of_the_mat_holds_no_date(tmp_path: Path) -> None:
    synthetic_files.write_mat(tmp_path / "a.mat", {"x": np.eye(3)})
    raw = (tmp_path / "a.mat").read_bytes()
    assert b"Created" not in raw[:116]
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "a.mat")["x"], np.eye(3))


def test_joints_lie_on_the_body_in_every_view(made: tuple[Path, list[Performance]], body: Path) -> None:
    """Joints regressed from the truth's vertices, projected by OpenCV, against the masks' pixels."""
    root, performances = made
    model = BodyModel.load(body)
    free_views = 0
    for performance in performances:
        vertices = truth_vertices(model, performance)
        joints_mm = 1000 * np.einsum("jv,fvc->fjc", model.J_regressor_h36m.numpy(), vertices)
        for camera in range(4):
            name = SequenceName(performance.subject, performance.action, 1, camera + 1).folder
            meta = scipy.io.loadmat(root / "images" / name / "h36m_meta.mat")
            np.testing.assert_allclose(meta["pose3d_world"], joints_mm, atol=0.01)
            K = np.array(
                [[meta["f"][0, 0], 0, meta["c"][0, 0]], [0, meta["f"][0, 1], meta["c"][0, 1]], [0, 0, 1]]
            )
            t = -meta["R"] @ meta["T"][0]
            for f in range(FRAMES):
                px = cv2.projectPoints(joints_mm[f][:, None], cv2.Rodrigues(meta["R"])[0], t, K, None)[0][
                    :, 0
                ]
                mask = cv2.imread(
                    str(root / "masks" / name / f"{name}_{f + 1:06d}.png"), cv2.IMREAD_GRAYSCALE
                )
                if performance.joints_hidden[f, camera] or performance.crosses_image[f, camera]:
                    continue
                free_views += 1
                to_body = cv2.distanceTransform(255 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                cells = np.rint(px).astype(int)
                assert to_body[cells[:, 1], cells[:, 0]].max() <= np.sqrt(2), (name, f)
    assert free_views > 0.5 * 4 * FRAMES * len(performances)


def truth_vertices(model: BodyModel, performance: Performance) -> np.ndarray:
    matrices = Rotation.from_rotvec(performance.pose.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    rotations = torch.from_numpy(matrices).float()
    out = model(
        betas=torch.from_numpy(performance.betas).expand(len(performance.pose), -1),
        body_pose=rotations[:, 1:],
        global_orient=rotations[:, 0],
        transl=torch.from_numpy(performance.transl_m),
    )
    return out.vertices.double().numpy()


def test_masks_are_binary_and_of_the_person(made: tuple[Path, list[Performance]], body: Path) -> None:
    """A mask covers the projected mesh up to cloth and hair: filled triangles by OpenCV, no depth."""
    root, performances = made
    model = BodyModel.load(body)
    for performance in performances:
        name = SequenceName(performance.subject, performance.action, 1, 2).folder
        meta = scipy.io.loadmat(root / "images" / name / "h36m_meta.mat")
        vertices = truth_vertices(model, performance) * 1000
        for f in range(FRAMES):
            mask = cv2.imread(str(root / "masks" / name / f"{name}_{f + 1:06d}.png"), cv2.IMREAD_UNCHANGED)
            assert mask.shape == (SIZE, SIZE)
            assert set(np.unique(mask)) == {0, 255}
            in_camera = (vertices[f] - meta["T"]) @ meta["R"].T
            px = in_camera[:, :2] / in_camera[:, 2:] * meta["f"] + meta["c"]
            filled = np.zeros((SIZE, SIZE), np.uint8)
            for triangle in px[model.faces.numpy()]:
                cv2.fillConvexPoly(filled, np.rint(triangle * 16).astype(np.int32), 255, shift=4)
            grown = cv2.dilate(filled, np.ones((3, 3), np.uint8))
            assert not (mask & ~grown).any(), (name, f)
            if not performance.joints_hidden[f, 1]:
                both = ((mask > 0) & (filled > 0)).sum()
                assert both > 0.8 * (filled > 0).sum(), (name, f)


def test_people_stand_on_the_floor_no_farther_away_than_some_stray(
    made: tuple[Path, list[Performance]], body: Path
) -> None:
    _, performances = made
    model = BodyModel.load(body)
    for performance in performances:
        vertices = truth_vertices(model, performance)
        np.testing.assert_allclose(vertices[..., 2].min(1), 0, atol=1e-5)
        pelvis = np.einsum("v,fvc->fc", model.J_regressor_h36m[0].numpy(), vertices)
        assert np.hypot(pelvis[:, 0], pelvis[:, 1]).max() < synthetic.STRAY_M[1] + 0.1


def test_truth_is_what_was_performed(made: tuple[Path, list[Performance]]) -> None:
    root, performances = made
    table = pq.read_table(root / "truth" / "truth.parquet")
    assert table.num_rows == len(SUBJECTS) * len(ACTIONS) * FRAMES
    rows = table.to_pylist()
    assert [(r["subject"], r["action"], r["subaction"], r["frame"]) for r in rows] == [
        (s, a, 1, f) for s in SUBJECTS for a in ACTIONS for f in range(1, FRAMES + 1)
    ]
    np.testing.assert_array_equal(rows[-1]["pose"], performances[-1].pose[-1])
    np.testing.assert_array_equal(rows[0]["transl_m"], performances[0].transl_m[0])
    shapes = {r["subject"]: tuple(r["betas"]) for r in rows}
    assert len(set(shapes.values())) == len(SUBJECTS)
    assert max(abs(b) for shape in shapes.values() for b in shape) <= 2


def test_same_bytes_with_two_workers(
    made: tuple[Path, list[Performance]], body: Path, tmp_path: Path
) -> None:
    root, _ = made
    performances = make(tmp_path, body, workers=2)
    for kind in ("images", "masks"):
        assert all_bytes(tmp_path / kind) == all_bytes(root / kind)
    synthetic_files.write_truth(tmp_path / "truth", performances)
    assert all_bytes(tmp_path / "truth") == all_bytes(root / "truth")


def test_another_seed_makes_another_set(body: Path) -> None:
    first, second = (synthetic.subject_betas(5, seed) for seed in (0, 1))
    assert np.abs(first - second).max() > 0.1


def test_surreal_layout_is_read_back(tmp_path: Path, body: Path) -> None:
    def write(folder: Path) -> dict[str, dict[str, int]]:
        sequences = {"train": 3, "val": 2}
        return synthetic_files.write_surreal(
            folder, body=body, motions=MOTIONS, seed=0, sequences=sequences, frames=5
        )

    written = write(tmp_path / "s")
    assert {split: [len(poses) for poses in found] for split, found in written.items()} == {
        "train": [5, 5, 5],
        "val": [5, 5],
    }
    read = {split: read_surreal(tmp_path / "s", split=split) for split in written}
    for split, found in read.items():
        assert (len(found.sequences), len(found)) == (len(written[split]), sum(map(len, written[split])))
        assert found.n_dropped == 0
    shapes = np.concatenate([read["train"].betas[::5], read["val"].betas[::5]])
    assert len(np.unique(shapes, axis=0)) == 5
    info = scipy.io.loadmat(next((tmp_path / "s").rglob("*_info.mat")))
    assert info["pose"].shape == (72, 5)
    assert info["shape"].shape == (10, 5)
    assert info["joints3D"].shape == (3, 24, 5)
    assert info["zrot"].shape == info["gender"].shape == (5, 1)
    # joints3D is the posed body, upright in a z-up world: the head is above the feet or the pelvis.
    bones = np.linalg.norm(info["joints3D"][:, 4] - info["joints3D"][:, 7], axis=0)
    np.testing.assert_allclose(bones, bones[0], atol=1e-4)
    write(tmp_path / "t")
    assert all_bytes(tmp_path / "s") == all_bytes(tmp_path / "t")


def test_bodies_for_evaluation_leave_the_empty_room_as_their_median(tmp_path: Path, body: Path) -> None:
    performances = make(
        tmp_path, body, workers=1, subjects=(), actions=tuple(range(2, 17)), bodies=1, poses=10
    )
    assert [performance.subject for performance in performances] == [EVALUATION_SUBJECTS[0]] * 10
    assert [len(performance.pose) for performance in performances] == [1] * 10
    cameras = rooms.cameras(seed=3, subject=101, image_size_px=SIZE)
    boxes, lamp = rooms.furniture(seed=3, subject=101), rooms.light(seed=3, subject=101)
    for number, camera in enumerate(cameras):
        names = [SequenceName(p.subject, p.action, p.subaction, number + 1).folder for p in performances]
        seen = [cv2.imread(str(tmp_path / "images" / n / f"{n}_000001.jpg")).astype(float) for n in names]
        empty = scene.sensor(
            rooms.render_room(camera, boxes, lamp, seed=3)[0],
            gain=rooms.exposure(seed=3, subject=101, camera=number),
            noise_std=0,
            rng=np.random.default_rng(0),
        )
        _, data = cv2.imencode(".jpg", empty[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        expected = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(float)
        other = np.abs(np.median(seen, axis=0) - expected).max(-1) > 25
        assert other.mean() < 0.004, names[0]
        assert (np.abs(seen[0] - expected).max(-1) > 25).mean() > 0.01  # somebody is there


def test_missing_motions_are_named_in_one_line(tmp_path: Path, body: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(
        DataError, match=r"none: holds no .npz, .bvh or .txt clip; git checkout data/motions"
    ) as caught:
        make(tmp_path, body, workers=1, motions=tmp_path / "none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "images").exists()


def test_a_broken_clip_of_the_users_is_named_before_anything_is_drawn(tmp_path: Path, body: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "walk.bvh").write_text("HIERARCHY\nROOT Hips\n{\n  OFFSET 0 0")
    with pytest.raises(DataError, match=r"walk\.bvh: .*; export it again") as caught:
        make(tmp_path, body, workers=1, motions=clips)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "images").exists()


def test_a_full_disk_reaches_the_stage_as_such(
    tmp_path: Path, body: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``stages.run`` turns this error number into one line; it must not be wrapped on its way."""

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as caught:
        make(tmp_path, body, workers=1)
    assert caught.value.errno == errno.ENOSPC
