import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geobody.data.backgrounds import (
    background_figure,
    background_name,
    pixelwise_median,
    read_background,
    spread,
    write_backgrounds,
)
from geobody.data.index import Index, build_index
from geobody.errors import DataError
from h36m_tree import Tree, room, write_tree
from stage_runner import run_stage


def make_index(tree: Tree) -> Index:
    output = tree.manifest.parent / "index"
    subjects = {"train_subjects": (1,), "test_subjects": (9,)}
    build_index(manifest=tree.manifest, output=output, **subjects)
    return Index.open(output)


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7), st.just(3))))
def test_median_is_numpys_rounded_down(frames):
    np.testing.assert_array_equal(pixelwise_median(frames), np.floor(np.median(frames, axis=0)))


def test_median_needs_a_few_megabytes_beside_its_frames():
    """40 frames of 1000x1000 are 120 MB; numpy's median alone would take eight times that again."""
    frames = np.random.default_rng(0).integers(0, 256, (40, 1000, 250, 3), dtype=np.uint8)
    tracemalloc.start()
    pixelwise_median(frames)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6 < frames.nbytes


@given(st.integers(1, 5000), st.integers(1, 200))
def test_spread_is_even_and_bounded(n, count):
    chosen = spread(n, count)
    assert len(chosen) == min(n, count)
    assert chosen[0] == 0
    assert chosen[-1] == (n - 1 if len(chosen) > 1 else 0)
    steps = np.diff(chosen)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_the_room_is_found_without_the_people(tmp_path):
    tree = write_tree(tmp_path, subjects=(1, 9), actions=(2, 3, 4), frames=7)
    paths = write_backgrounds(make_index(tree), root=tree.root, output=tmp_path / "b", frames=21)
    assert [path.name for path in paths] == [background_name(s, c) for s in (1, 9) for c in (1, 2, 3, 4)]
    for s in (1, 9):
        for c in (1, 2, 3, 4):
            found = read_background(tmp_path / "b", subject=s, camera=c, width_px=128, height_px=120)
            error = np.abs(found.astype(int) - room(s, c)).max(-1)
            assert np.median(error) <= 3
            assert (error > 15).mean() < 0.02


def test_no_more_frames_are_read_than_asked_for(tmp_path, monkeypatch):
    """Frames come from every sequence of the camera, and their number does not grow with the data."""
    from geobody.data import backgrounds

    tree = write_tree(tmp_path, subjects=(1, 9), actions=(2, 3), frames=8, cameras=(1,))
    read = []

    def spy(path, **size):
        read.append(path)
        return np.zeros((120, 128, 3), np.uint8)

    monkeypatch.setattr(backgrounds, "read_image", spy)
    write_backgrounds(make_index(tree), root=tree.root, output=tmp_path / "b", frames=6, jobs=1)
    assert len(read) == 12
    assert len({path.parent for path in read}) == 4


def test_bytes_are_the_same_for_any_number_of_workers(tmp_path):
    tree = write_tree(tmp_path, subjects=(1, 9), frames=5)
    index = make_index(tree)
    for jobs in (1, 2):
        write_backgrounds(index, root=tree.root, output=tmp_path / f"b{jobs}", frames=4, jobs=jobs)
    for path in (tmp_path / "b1").iterdir():
        assert path.read_bytes() == (tmp_path / "b2" / path.name).read_bytes()


def test_the_figure_puts_subjects_in_columns_and_cameras_in_rows(tmp_path):
    colours = {(1, 1): (200, 40, 40), (1, 2): (40, 200, 40), (9, 1): (40, 40, 200)}
    cv2.imwrite(str(tmp_path / background_name(101, 1)), np.full((50, 60, 3), (7, 90, 7), np.uint8))
    for (subject, camera), colour in colours.items():
        path = tmp_path / background_name(subject, camera)
        cv2.imwrite(str(path), np.full((50, 60, 3), colour[::-1], np.uint8))
    figure = background_figure(sorted(tmp_path.iterdir()))
    assert not (figure == (7, 90, 7)).all(-1).any()  # bodies for evaluation alone are left out
    corner = {}
    for key, colour in colours.items():
        place = np.argwhere((figure == colour).all(-1))
        assert len(place) == 128 * 128
        corner[key] = place[0]
    (y11, x11), (y12, x12), (y91, x91) = (corner[key] for key in colours)
    assert y11 == y91 < y12
    assert x11 == x12 < x91


def test_a_missing_background_is_named(tmp_path):
    with pytest.raises(DataError, match=r"s_01_ca_02\.png: is missing; make it with"):
        read_background(tmp_path, subject=1, camera=2, width_px=10, height_px=10)


def test_a_truncated_jpeg_ends_in_one_line_exit_3_and_nothing_half_written(tmp_path):
    tree = write_tree(tmp_path, subjects=(1, 9), frames=3)
    assert run_stage(tree, tmp_path / "work", "index").returncode == 0
    path = sorted(tree.images.rglob("*.jpg"))[0]
    path.write_bytes(path.read_bytes()[:700])
    done = run_stage(tree, tmp_path / "work", "backgrounds")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == f"error: {path}: is no whole JPEG (its end is missing); " + (
        "restore it from the data set"
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "work" / "data" / "backgrounds").exists()
    assert not (tmp_path / "work" / "metrics" / "figures" / "backgrounds.png").exists()
