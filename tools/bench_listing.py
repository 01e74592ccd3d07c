"""Peak memory and time of listing a data set of any size, without its files.

``python -m tools.bench_listing --images 2000000`` runs `geobody manifest`, what stage `index` makes of the
manifest, and `geobody check`, each in a process of its own, on a tree that exists only in what ``os.scandir``
answers: as many masks as images, in Human3.6M's 840 sequences. Hashing and reading .mat files (for `geobody check`
in a process apart, which is not counted) are stood in for.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from geobody.threads import PINNED

SUBJECTS = (1, 5, 6, 7, 8, 9, 11)
SEQUENCES = [
    f"s_{s:02d}_act_{a:02d}_subact_{b:02d}_ca_{c:02d}"
    for s in SUBJECTS for a in range(2, 17) for b in (1, 2) for c in (1, 2, 3, 4)
]  # fmt: skip

STEPS = ("write", "index", "check")


class Entry:
    """What os.scandir would say of a file or a folder."""

    def __init__(self, name: str, *, is_folder: bool) -> None:
        self.name, self._is_folder = name, is_folder

    def is_dir(self) -> bool:
        return self._is_folder

    def stat(self) -> os.stat_result:
        return os.stat_result((0o100644, 0, 0, 1, 0, 0, 100_000 + len(self.name), 0, 0, 0))


class Tree:
    """A stand-in for os.scandir on a data set of ``images`` images under ``root``."""

    def __init__(self, root: Path, images: int) -> None:
        self._root, self._frames = root, -(-images // len(SEQUENCES))

    def __call__(self, path: Path) -> "Tree":
        self._path = path
        return self

    def __enter__(self) -> Iterator[Entry]:
        parts = Path(self._path).relative_to(self._root).parts
        if len(parts) == 1:
            return (Entry(name, is_folder=True) for name in reversed(SEQUENCES))
        if parts[0] == "annotations":
            return iter([Entry("h36m_meta.mat", is_folder=False)])
        return (Entry(f"{parts[1]}_{n:06d}.jpg", is_folder=False) for n in range(self._frames, 0, -1))

    def __exit__(self, *_: object) -> None:
        pass


def write(root: Path, images: int) -> dict[str, Any]:
    """Writes the manifest, with its journal."""
    from geobody.data import manifest_writing

    for part in ("images", "masks", "annotations"):
        (root / part).mkdir()
    os.scandir = Tree(root, images)  # type: ignore[assignment]
    manifest_writing.bytes_and_sha256 = lambda path: (
        100_000 + len(path.name),
        hashlib.sha256(str(path).encode()).hexdigest(),
    )
    written = manifest_writing.write_manifest(root / "manifest.parquet", journal=root / ".journal.sqlite")
    return {"files": written.files}


def index(root: Path, images: int) -> dict[str, Any]:
    """Builds the index of the manifest."""
    from geobody.data import index as module

    meta = _meta(images)
    module.read_meta = lambda path: meta
    counts = module.build_index(manifest=root / "manifest.parquet", output=root / "index")
    return {"images": counts["images"]}


def check(root: Path, images: int) -> dict[str, Any]:
    """Surveys the data set; the headers of first images are stood in for too."""
    from geobody.data import check as module

    meta, picture = _meta(images), SimpleNamespace(size=(1000, 1000))
    vars(module).update(
        ReaderApart=lambda read: nullcontext(lambda path: meta),
        Image=SimpleNamespace(open=lambda path: nullcontext(picture)),
    )
    os.scandir = Tree(root, images)  # type: ignore[assignment]
    found = module.survey(root, module.Wanted(subjects=SUBJECTS, cameras=(1, 2, 3, 4), exclude=()))
    return {"images": found.files["images"], "faults": len(found.faults)}


def _meta(images: int) -> Any:
    """What each sequence's .mat would say."""
    from geobody.data.h36m import SequenceMeta
    from geobody.geometry.cameras import Camera

    camera = Camera(np.eye(3), np.zeros(3), np.ones(2), np.zeros(2), 1000, 1000)
    return SequenceMeta(camera, np.zeros((-(-images // len(SEQUENCES)), 17, 3)))


def measure(images: int) -> dict[str, dict[str, Any]]:
    """What writing, indexing and checking took: counts, peak_memory_mb, seconds."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="geobody-listing-") as folder:
        for step in STEPS:
            command = [
                sys.executable,
                "-m",
                "tools.bench_listing",
                "--images",
                str(images),
                "--step",
                step,
                "--root",
                folder,
            ]
            # As stages do; pyarrow too heeds it, and its peak varies by 30 MB from run to run with more.
            environment = {**os.environ, **PINNED}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found[step] = json.loads(done.stdout)
    return found


def peak_memory_mb() -> float:
    """Peak resident memory of this program; ``getrusage`` would count what its parent had when it forked."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status: has no VmHWM")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench_listing", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--images", type=int, default=2_000_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if not wanted.step:
        print(json.dumps(measure(wanted.images), indent=2))
        return
    start = time.monotonic()
    counts = {"write": write, "index": index, "check": check}[wanted.step](wanted.root, wanted.images)
    seconds = round(time.monotonic() - start, 1)
    print(json.dumps({**counts, "peak_memory_mb": round(peak_memory_mb()), "seconds": seconds}))


if __name__ == "__main__":
    main()
