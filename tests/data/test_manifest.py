import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geobody.data.manifest import check_file, read_hashes, read_manifest, write_manifest
from geobody.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


def make_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def rows(path):
    return pq.read_table(path).to_pylist()


def test_a_row_per_file_sorted_by_root_and_folder(tmp_path):
    images, masks = tmp_path / "images", tmp_path / "masks"
    make_files(images, "b/b_2.jpg", "b/b_1.jpg", "a/h36m_meta.mat", "a/x/deep.jpg")
    make_files(masks, "b/b_1.png")
    assert write_manifest(tmp_path / "manifest.parquet", {"masks": masks, "images": images}) == 5
    found = rows(tmp_path / "manifest.parquet")
    expected = [
        ("images", "a/h36m_meta.mat"),
        ("images", "a/x/deep.jpg"),
        ("images", "b/b_1.jpg"),
        ("images", "b/b_2.jpg"),
        ("masks", "b/b_1.png"),
    ]
    assert [(row["root"], row["path"]) for row in found] == expected
    for row in found:
        content = row["path"].encode()
        assert row["bytes"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()


def test_other_files_hidden_ones_and_inner_roots_are_left_out(tmp_path):
    make_files(
        tmp_path / "d", "images/a/1.jpg", "masks/a/1.jpg", "notes.txt", ".cache/1.jpg", "images/.tmp-1.jpg"
    )
    write_manifest(tmp_path / "m.parquet", {"images": tmp_path / "d", "masks": tmp_path / "d" / "masks"})
    found = [(row["root"], row["path"]) for row in rows(tmp_path / "m.parquet")]
    assert found == [("images", "images/a/1.jpg"), ("masks", "a/1.jpg")]


def test_bytes_repeat_whatever_the_order_on_disk_and_the_threads(tmp_path):
    names = [f"{a}/{n}.jpg" for a in "cab" for n in range(50)]
    make_files(tmp_path / "one", *names)
    make_files(tmp_path / "two", *reversed(names))
    write_manifest(tmp_path / "1.parquet", {"images": tmp_path / "one"}, threads=1)
    write_manifest(tmp_path / "2.parquet", {"images": tmp_path / "two"}, threads=4)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()


def test_a_changed_byte_changes_the_manifest(tmp_path):
    make_files(tmp_path / "d", "a/1.jpg")
    write_manifest(tmp_path / "1.parquet", {"images": tmp_path / "d"})
    (tmp_path / "d/a/1.jpg").write_bytes(b"a/2.jpg")
    write_manifest(tmp_path / "2.parquet", {"images": tmp_path / "d"})
    assert rows(tmp_path / "1.parquet") != rows(tmp_path / "2.parquet")


def test_reading_gives_what_was_written(tmp_path):
    make_files(tmp_path / "i", "a/1.jpg", "a/2.jpg")
    make_files(tmp_path / "m", "a/1.png")
    write_manifest(tmp_path / "m.parquet", {"images": tmp_path / "i", "masks": tmp_path / "m"})
    found = list(read_manifest(tmp_path / "m.parquet"))
    assert found == [("images", ["a/1.jpg", "a/2.jpg"]), ("masks", ["a/1.png"])]


def test_a_missing_or_empty_root_leaves_no_manifest(tmp_path):
    make_files(tmp_path / "i", "a/1.jpg")
    (tmp_path / "empty").mkdir()
    for bad in ("empty", "nowhere"):
        with pytest.raises(DataError, match=bad):
            write_manifest(tmp_path / "m.parquet", {"images": tmp_path / "i", "masks": tmp_path / bad})
    assert sorted(os.listdir(tmp_path)) == ["empty", "i"]


def test_hashes_are_read_by_root_and_end_of_the_name_and_checked(tmp_path):
    make_files(tmp_path / "i", "a/1.jpg", "a/x.mat")
    make_files(tmp_path / "m", "b/x.mat")
    write_manifest(tmp_path / "m.parquet", {"images": tmp_path / "i", "masks": tmp_path / "m"})
    found = read_hashes(tmp_path / "m.parquet", "images", suffix="x.mat")
    assert found == {"a/x.mat": (7, hashlib.sha256(b"a/x.mat").hexdigest())}
    check_file(tmp_path / "i/a/x.mat", found["a/x.mat"])
    with pytest.raises(DataError, match=r"does not match the manifest \(other bytes\)"):
        check_file(tmp_path / "m/b/x.mat", found["a/x.mat"])
    with pytest.raises(DataError, match="is not in the manifest"):
        check_file(tmp_path / "i/a/x.mat", None)
    with pytest.raises(DataError, match="cannot be read"):
        check_file(tmp_path / "i/a/gone.mat", found["a/x.mat"])


def write_from_the_command_line(*arguments):
    command = [sys.executable, "-m", "tools.write_manifest", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_line_writes_the_same_manifest(tmp_path):
    make_files(tmp_path / "i", "a/1.jpg", "a/x.mat")
    make_files(tmp_path / "m", "a/1.png")
    write_manifest(tmp_path / "1.parquet", {"images": tmp_path / "i", "masks": tmp_path / "m"})
    done = write_from_the_command_line(tmp_path / "i", tmp_path / "m", tmp_path / "2.parquet")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/2.parquet: 3 files\n")
    assert (tmp_path / "2.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()
    assert write_from_the_command_line(tmp_path / "i", "-", tmp_path / "3.parquet").returncode == 0
    assert {row["root"] for row in rows(tmp_path / "3.parquet")} == {"images"}


@pytest.mark.parametrize(("images", "out"), [("nowhere", "m.parquet"), ("i", "i/a/1.jpg/m.parquet")])
def test_the_command_line_ends_in_one_line_for_what_is_no_folder(tmp_path, images, out):
    make_files(tmp_path / "i", "a/1.jpg")
    done = write_from_the_command_line(tmp_path / images, "-", tmp_path / out)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path}/")
    assert done.stderr.splitlines()[1:] == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["1.jpg"]


def test_what_is_no_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match=r"m\.parquet: there is no such manifest; .*tools\.write_manifest"):
        list(read_manifest(tmp_path / "m.parquet"))
    (tmp_path / "m.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"m\.parquet: cannot be read"):
        list(read_manifest(tmp_path / "m.parquet"))
