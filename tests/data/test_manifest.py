import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geobody.data import manifest_writing
from geobody.data.manifest import bytes_and_sha256, check_file, read_hashes, read_manifest
from geobody.data.manifest_journal import Journal
from geobody.data.manifest_writing import Written, differences, list_folders, write_manifest
from geobody.errors import DataError
from tools.bench_listing import STEPS, measure

ROOT = Path(__file__).resolve().parents[2]


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


def test_a_run_that_ends_halfway_goes_on_where_it_was(tmp_path, monkeypatch):
    names = [f"images/{s}/{n:02d}.jpg" for s in "ab" for n in range(30)]
    manifest = make_files(tmp_path, *names)
    journal = tmp_path / ".journal"
    read = []

    def hash_some(path):
        if len(read) == 40:
            raise KeyboardInterrupt
        read.append(path)
        return bytes_and_sha256(path)

    monkeypatch.setattr(manifest_writing, "_FILES_PER_TASK", 10)
    monkeypatch.setattr(manifest_writing, "bytes_and_sha256", hash_some)
    with pytest.raises(KeyboardInterrupt):
        write_manifest(manifest, journal=journal, threads=1)
    assert not manifest.exists()
    monkeypatch.setattr(manifest_writing, "bytes_and_sha256", bytes_and_sha256)
    assert write_manifest(manifest, journal=journal) == Written(60, 20)
    expected = manifest.read_bytes()
    assert write_manifest(manifest, journal=journal) == Written(60, 0)
    assert manifest.read_bytes() == expected
    assert write_manifest(manifest) == Written(60, 60)
    assert manifest.read_bytes() == expected


def test_what_a_killed_process_hashed_is_not_hashed_again(tmp_path):
    """SIGKILL in the middle: nothing in the process can put things in order."""
    manifest = make_files(tmp_path, *(f"images/{s}/{n:02d}.jpg" for s in "ab" for n in range(30)))
    program = """
import os, signal, sys
from pathlib import Path
from geobody.data import manifest_journal, manifest_writing
manifest_journal._COMMIT_SECONDS = 0
manifest_writing._FILES_PER_TASK = 10
real, count = manifest_writing.bytes_and_sha256, 0
def hash_some(path):
    global count
    count += 1
    if count > 45:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path)
manifest_writing.bytes_and_sha256 = hash_some
manifest_writing.write_manifest(Path(sys.argv[1]), journal=Path(sys.argv[2]), threads=1)
"""
    journal = tmp_path / ".journal"
    done = subprocess.run([sys.executable, "-c", program, str(manifest), str(journal)], cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT / "src")})  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert not manifest.exists()
    assert write_manifest(manifest, journal=journal) == Written(60, 20)


def test_of_files_that_changed_in_size_or_time_alone_the_bytes_are_read_again(tmp_path):
    manifest = make_files(tmp_path, "images/a/1.jpg", "images/a/2.jpg", "images/a/3.jpg")
    journal = tmp_path / ".journal"
    write_manifest(manifest, journal=journal)
    (tmp_path / "images/a/1.jpg").write_bytes(b"longer than before")
    os.utime(tmp_path / "images/a/2.jpg", (1, 1))
    (tmp_path / "images/a/3.jpg").rename(tmp_path / "images/a/4.jpg")
    assert write_manifest(manifest, journal=journal) == Written(3, 3)
    by_path = {row["path"]: row["sha256"] for row in rows(manifest)}
    assert by_path["images/a/1.jpg"] == hashlib.sha256(b"longer than before").hexdigest()
    assert by_path["images/a/4.jpg"] == hashlib.sha256(b"images/a/3.jpg").hexdigest()
    assert write_manifest(manifest, journal=journal) == Written(3, 0)


def test_every_difference_is_named_whatever_size_and_time_say(tmp_path):
    names = [f"images/{s}/{n}.jpg" for s in ("a", "a-b", "b") for n in range(5)] + ["masks/a/0.png"]
    manifest = make_files(tmp_path, *names)
    write_manifest(manifest)
    assert list(differences(manifest)) == []
    spoilt = tmp_path / "images/a/3.jpg"
    status = spoilt.stat()
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"!")
    os.utime(spoilt, ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "images/a-b/0.jpg").write_bytes(b"short")
    (tmp_path / "images/b/4.jpg").unlink()
    (tmp_path / "masks/a/0.png").unlink()
    make_files(tmp_path, "annotations/b/h36m_meta.mat", "images/a/9.jpg")
    assert sorted(differences(manifest)) == [
        "annotations/b/h36m_meta.mat: is not in the manifest",
        "images/a-b/0.jpg: has 5 bytes, not 16",
        "images/a/3.jpg: has other bytes",
        "images/a/9.jpg: is not in the manifest",
        "images/b/4.jpg: is missing",
        "masks/a/0.png: is missing",
    ]


def test_what_is_no_journal_is_named(tmp_path):
    manifest = make_files(tmp_path, "images/a/1.jpg")
    (tmp_path / ".journal").write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"\.journal: cannot be used as a journal \(.*\); .*remove the file"):
        write_manifest(manifest, journal=tmp_path / ".journal")
    assert not manifest.exists()


def hashes_of_many(journal):
    for number in range(100):
        journal.add(f"images/{number}", [((f"{name:0200d}.jpg", 1, 1), "ab" * 32) for name in range(100)])


def test_on_a_full_disk_the_journal_is_kept_and_goes_on_with_space(tmp_path):
    path = tmp_path / ".journal"
    with Journal(path) as journal:
        journal.add("images/a", [(("1.jpg", 1, 1), "cd" * 32)])
    with Journal(path) as journal:
        journal._db.execute("PRAGMA max_page_count = 20")  # SQLite's own way to run out of space
        with pytest.raises(DataError, match=r"is full\); free some space and run this again") as caught:
            hashes_of_many(journal)
    assert "remove" not in str(caught.value)
    with Journal(path) as journal:
        assert journal.known("images/a") == {("1.jpg", 1, 1): "cd" * 32}
        hashes_of_many(journal)
        assert len(journal.known("images/99")) == 100


def test_a_journal_in_anothers_hands_is_waited_for_and_not_removed(tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, timeout=0))
    path = tmp_path / ".journal"
    with Journal(path) as journal:
        other = connect(path)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DataError, match=r"is locked\); let the other geobody manifest end") as caught:
            journal.known("images/a")
        other.close()
        assert "remove" not in str(caught.value)
        assert journal.known("images/a") == {}


def test_a_damaged_journal_may_be_removed(tmp_path):
    path = tmp_path / ".journal"
    with Journal(path) as journal:
        hashes_of_many(journal)
    content = bytearray(path.read_bytes())
    content[4096:] = b"x" * (len(content) - 4096)
    path.write_bytes(content)
    with (
        pytest.raises(DataError, match=r"malformed\); remove the file: the hashes are made again"),
        Journal(path) as it,
    ):
        it.known("images/1")


def test_names_that_end_in_capitals_are_not_listed(tmp_path):
    manifest = make_files(tmp_path, "images/a/1.jpg", "images/a/2.JPG", "images/b/3.JPG", "masks/a/1.PNG")
    assert write_manifest(manifest) == Written(1, 1)
    assert paths(manifest) == ["images/a/1.jpg"]
    found = [(folder.path, folder.misspelt) for folder in list_folders(tmp_path, "images")]
    assert found == [("images/a", ["2.JPG"]), ("images/b", ["3.JPG"])]
    assert list(differences(manifest)) == []


def test_memory_grows_by_bytes_per_image():
    """What two million images then take; `python -m tools.bench_listing` measures it at that number."""
    images = (100_000, 300_000)  # at the lower one the buffers of the writers are full
    small, large = (measure(n) for n in images)
    for listed, n in ((small, images[0]), (large, images[1])):
        assert listed["check"]["images"] == listed["index"]["images"] >= n
        assert listed["check"]["faults"] == 0
    for step in STEPS:
        growth_mb = (large[step]["peak_memory_mb"] - small[step]["peak_memory_mb"]) / (images[1] - images[0])
        assert large[step]["peak_memory_mb"] + (2_000_000 - images[1]) * growth_mb < 500, (step, small, large)
