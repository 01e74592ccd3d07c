import hashlib
import os

import pyarrow.parquet as pq
import pytest

from geobody.data.manifest import check_file, read_hashes, read_manifest
from geobody.data.manifest_writing import write_manifest
from geobody.errors import DataError


def make_files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root / "manifest.parquet"


def rows(path):
    return pq.read_table(path).to_pylist()


def paths(path):
    return [row["path"] for row in rows(path)]


def test_a_row_per_file_sorted_by_part_and_folder(tmp_path):
    expected = [
        "annotations/b/h36m_meta.mat",
        "images/a/h36m_meta.mat",
        "images/a/x/deep.jpg",
        "images/b/b_1.jpg",
        "images/b/b_2.jpg",
        "masks/b/b_1.png",
        "truth/truth.parquet",
    ]
    manifest = make_files(tmp_path, *reversed(expected))
    assert write_manifest(manifest).files == 7
    assert paths(manifest) == expected
    for row in rows(manifest):
        content = row["path"].encode()
        assert row["bytes"] == len(content)
        assert row["sha256"] == hashlib.sha256(content).hexdigest()


def test_other_files_and_hidden_ones_are_left_out(tmp_path):
    manifest = make_files(
        tmp_path, "images/a/1.jpg", "masks/a/1.jpg", "notes.jpg", ".cache/1.jpg", "images/.tmp-1.jpg",
        "images/a/notes.txt", "masks/a/h36m_meta.mat", "surreal/a.mat",
    )  # fmt: skip
    write_manifest(manifest)
    assert paths(manifest) == ["images/a/1.jpg", "masks/a/1.jpg"]


def test_parts_may_be_links_to_folders_elsewhere(tmp_path):
    make_files(tmp_path / "disk1", "s/1.jpg")
    make_files(tmp_path / "disk2", "s/1.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/images").symlink_to(tmp_path / "disk1")
    (tmp_path / "root/masks").symlink_to(tmp_path / "disk2")
    write_manifest(tmp_path / "root/manifest.parquet")
    assert paths(tmp_path / "root/manifest.parquet") == ["images/s/1.jpg", "masks/s/1.png"]


def test_bytes_repeat_whatever_the_order_on_disk_and_the_threads(tmp_path):
    names = [f"images/{a}/{n}.jpg" for a in "cab" for n in range(50)]
    one = make_files(tmp_path / "one", *names)
    two = make_files(tmp_path / "two", *reversed(names))
    write_manifest(one, threads=1)
    write_manifest(two, threads=4)
    assert one.read_bytes() == two.read_bytes()


def test_a_changed_byte_changes_the_manifest(tmp_path):
    manifest = make_files(tmp_path, "images/a/1.jpg")
    write_manifest(manifest)
    before = rows(manifest)
    (tmp_path / "images/a/1.jpg").write_bytes(b"images/a/2.jpg")
    write_manifest(manifest)
    assert rows(manifest) != before


def test_reading_gives_what_was_written(tmp_path):
    manifest = make_files(tmp_path, "images/a/1.jpg", "images/a/2.jpg", "masks/a/1.png")
    write_manifest(manifest)
    found = [path for batch in read_manifest(manifest) for path in batch.to_pylist()]
    assert found == ["images/a/1.jpg", "images/a/2.jpg", "masks/a/1.png"]


@pytest.mark.parametrize(
    ("there", "said"), [("masks/a.jpg", "has no folder images/"), ("images/x.txt", "holds no")]
)
def test_without_images_there_is_no_manifest(tmp_path, there, said):
    manifest = make_files(tmp_path, there)
    with pytest.raises(DataError, match=said):
        write_manifest(manifest)
    assert os.listdir(tmp_path) == [there.split("/")[0]]


def test_hashes_are_read_by_the_end_of_the_path_and_checked(tmp_path):
    manifest = make_files(tmp_path, "images/a/1.jpg", "images/a/x.mat")
    write_manifest(manifest)
    found = read_hashes(manifest, suffix="x.mat")
    assert found == {"images/a/x.mat": (14, hashlib.sha256(b"images/a/x.mat").hexdigest())}
    expected = found["images/a/x.mat"]
    check_file(tmp_path / "images/a/x.mat", expected)
    with pytest.raises(DataError, match=r"does not match the manifest \(other bytes\)"):
        check_file(tmp_path / "images/a/1.jpg", expected)
    with pytest.raises(DataError, match="is not in the manifest"):
        check_file(tmp_path / "images/a/x.mat", None)
    with pytest.raises(DataError, match="cannot be read"):
        check_file(tmp_path / "images/a/gone.mat", expected)


def test_what_is_no_manifest_is_named(tmp_path):
    with pytest.raises(DataError, match=r"m\.parquet: there is no such manifest; .*geobody manifest"):
        list(read_manifest(tmp_path / "m.parquet"))
    (tmp_path / "m.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"m\.parquet: cannot be read"):
        list(read_manifest(tmp_path / "m.parquet"))
