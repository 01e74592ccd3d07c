"""A reader that crashes the process costs one file."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from broken_mat import write_crashing_mat
from geobody.data.h36m import read_meta
from geobody.data.reader_apart import ReaderApart
from geobody.data.surreal import read_info, read_surreal
from geobody.errors import DataError
from h36m_tree import write_tree


def test_a_crash_is_an_error_of_its_file_and_the_next_one_is_read(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, subjects=(1,), frames=2, cameras=(1, 2))
    good = sorted(tree.root.rglob("h36m_meta.mat"))[0]
    bad = write_crashing_mat(tmp_path / "bad.mat")
    with ReaderApart(read_meta) as read:
        for _ in range(2):
            np.testing.assert_array_equal(read(good).joints_world_mm, read_meta(good).joints_world_mm)
            with pytest.raises(DataError, match=r"bad\.mat: is damaged: reading it crashes; restore it"):
                read(bad)
        with pytest.raises(DataError, match=r"none\.mat: is missing"):
            read(tmp_path / "none.mat")


def test_one_process_reads_all_files_and_ends_with_the_block(tmp_path: Path) -> None:
    with ReaderApart(_process) as read:
        first, second = read(tmp_path / "a"), read(tmp_path / "b")
    assert first == second != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def _process(path: Path) -> int:
    return os.getpid()


def test_of_the_priors_set_the_file_that_crashes_is_named(tmp_path: Path) -> None:
    for name in ("01_01", "02_01"):
        (tmp_path / f"cmu/train/run0/{name}").mkdir(parents=True)
        fields = {"pose": np.zeros((72, 3)), "shape": np.zeros((10, 3))}
        savemat(tmp_path / f"cmu/train/run0/{name}/{name}_c0001_info.mat", fields)
    with ReaderApart(read_info) as read:
        assert len(read_surreal(tmp_path, read=read)) == 6
        write_crashing_mat(tmp_path / "cmu/train/run0/02_01/02_01_c0001_info.mat")
        with pytest.raises(DataError, match=r"02_01_c0001_info\.mat: is damaged"):
            read_surreal(tmp_path, read=read)
