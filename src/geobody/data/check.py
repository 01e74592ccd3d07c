"""One page on a data set: what is there, what is missing, what is left out and why, what would stop a run.

Names are listed, each sequence's ``.mat`` is read (in a process apart), and the header of its first image;
no pixel is decoded.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from geobody.conventions import H36M_ACTIONS, TEST_SUBJECTS, TRAIN_SUBJECTS
from geobody.data.h36m import IMAGE_SUFFIX, SequenceMeta, SequenceName, is_sequence, read_meta
from geobody.data.h36m_faults import KNOWN_FAULTS
from geobody.data.listings import Listing, choose_sequences, enter_files
from geobody.data.manifest import NAME
from geobody.data.manifest_writing import list_folders, parts_of
from geobody.data.reader_apart import ReaderApart
from geobody.errors import DataError
from geobody.progress import progress

SUBACTIONS: Final = (1, 2)
"""Of Human3.6M: every action was performed twice."""
LONGEST_LIST: Final = 8
"""Lines of a list on one page."""


@dataclass(frozen=True)
class Wanted:
    """What of a data set is used: params.yaml's section ``dataset``."""

    subjects: tuple[int, ...] = (*TRAIN_SUBJECTS, *TEST_SUBJECTS)
    cameras: tuple[int, ...] = (1, 2, 3, 4)
    exclude: tuple[tuple[str, str], ...] = ()
    """(folder or pattern, reason)"""

    def leaves_out(self, name: SequenceName) -> bool:
        """Whether a sequence is excluded."""
        return any(fnmatchcase(name.folder, pattern) for pattern, _ in self.exclude)


@dataclass
class Survey:
    """What was found in a data set."""

    root: Path
    listings: dict[SequenceName, Listing] = field(default_factory=dict)
    """Of the sequences that are used."""
    files: Counter[str] = field(default_factory=Counter)
    """By part."""
    sizes: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Sequences by subject and image size."""
    distorted: int = 0
    """Sequences whose lens distortion is known."""
    beside: int = 0
    """Sequences whose .mat lies beside the images."""
    excluded: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Reason and number of sequences of each exclusion."""
    faults: list[str] = field(default_factory=list)
    """What would stop the pipeline."""
    remarks: list[str] = field(default_factory=list)
    """What would not."""


def survey(root: Path, wanted: Wanted) -> Survey:
    """Looks at the data set ``root``. Raises DataError when it has no images/ at all."""
    found = Survey(root)
    listings: dict[str, Listing] = {}
    for part in parts_of(root):
        for folder in progress(list_folders(root, part), desc=f"listing {part}/, folders"):
            found.files[part] += len(folder.files)
            empty = [name for name, size, _ in folder.files if size == 0]
            if empty:
                found.faults.append(f"{folder.path}/{empty[0]}: is empty{_and_more(len(empty) - 1)}")
            if folder.misspelt:
                first, more = folder.misspelt[0], _and_more(len(folder.misspelt) - 1)
                found.remarks.append(f"{folder.path}/{first}: is not used, its ending has capitals{more}")
            names = pa.array([name for name, _, _ in folder.files], pa.string())
            try:
                enter_files(listings, PurePosixPath(folder.path), names, root=root)
            except DataError as error:
                found.faults.append(_within(root, error))
    _choose(found, listings, wanted)
    masked = any(listing.masks for listing in found.listings.values())
    with ReaderApart(read_meta) as read:
        for name, listing in progress(sorted(found.listings.items()), desc="reading .mat files"):
            _look_at(found, name, listing, read, masked=masked)
    for subject in wanted.subjects:
        if not any(name.subject == subject for name in found.listings):
            found.faults.append(f"subject {subject} has no images; add them or mend params.yaml: dataset")
    return found


def _choose(found: Survey, listings: dict[str, Listing], wanted: Wanted) -> None:
    for folder, listing in sorted(listings.items()):
        if listing.images is None and is_sequence(folder):
            found.remarks.append(f"{folder}: has masks or a .mat but no images")
    reasons = dict(wanted.exclude)
    choice = choose_sequences(
        listings, found.root, exclude=list(reasons), subjects=wanted.subjects, cameras=wanted.cameras
    )
    found.faults += [_within(found.root, error) for error in choice.misnamed]
    used = [name for name in choice.names if name.subject in wanted.subjects]
    found.listings = {name: listings[name.folder] for name in used}
    further = len(choice.names) - len(used)
    if further:
        found.remarks.append(f"{further} sequences of bodies for evaluation alone are not counted above")
    found.excluded = {pattern: (reasons[pattern], hits) for pattern, hits in choice.excluded.items()}


def _look_at(
    found: Survey,
    name: SequenceName,
    listing: Listing,
    read: Callable[[Path], SequenceMeta],
    *,
    masked: bool,
) -> None:
    """One sequence's .mat, masks and first image."""
    folder, frames = name.folder, listing.frames
    if masked:
        bare = listing.unmasked(frames)
        if len(bare):
            found.faults.append(f"{folder}: {len(bare)} of {len(frames)} images have no mask ({_some(bare)})")
    gaps = int(frames[-1]) - len(frames) - int(frames[0]) + 1
    if gaps:
        found.remarks.append(
            f"{folder}: {gaps} images are missing between frames {frames[0]} and {frames[-1]}"
        )
    if listing.meta is None:
        found.faults.append(
            f"{folder}: has no h36m_meta.mat, neither beside the images nor under annotations/"
        )
        return
    found.beside += listing.meta.startswith("images/")
    try:
        meta = read(found.root / listing.meta)
    except DataError as error:
        found.faults.append(_within(found.root, error))
        return
    poses = len(meta.joints_world_mm)
    if frames[-1] > poses:
        found.faults.append(f"{folder}: {poses} poses but images up to frame {frames[-1]}")
    elif frames[-1] < poses:
        found.remarks.append(f"{folder}: {poses} poses but images up to frame {frames[-1]} only")
    found.distorted += meta.camera.distortion is not None
    first = f"{listing.images}/{folder}_{frames[0]:06d}{IMAGE_SUFFIX}"
    try:
        with Image.open(found.root / first) as image:
            size = image.size
    except OSError as error:
        found.faults.append(f"{first}: is no image ({str(error).splitlines()[0].split(': /')[0]})")
        return
    found.sizes[name.subject][f"{size[0]}x{size[1]}"] += 1
    expected = meta.camera.width_px, meta.camera.height_px
    if size != expected:
        found.faults.append(
            f"{first}: is {size[0]}x{size[1]} pixels, its .mat says {expected[0]}x{expected[1]}"
        )


def page(found: Survey, wanted: Wanted, *, everything: bool = False) -> str:
    """The survey as text; without ``everything`` long lists are cut."""
    missing = missing_sequences(found.listings, wanted)
    lines = [f"data set {found.root}", *_parts(found), "", *_table(found, wanted), ""]
    notes = [
        f"{fault.pattern}: {fault.what}"
        for fault in KNOWN_FAULTS
        if any(fnmatchcase(name.folder, fault.pattern) for name in found.listings)
    ]
    left_out = [f"{p}: {reason} ({n} sequences here)" for p, (reason, n) in found.excluded.items()]
    for title, items in (
        ("missing of Human3.6M's sequences", missing),
        ("left out by params.yaml: dataset.exclude", left_out),
        ("known faults of Human3.6M that are not left out", notes),
        ("remarks", found.remarks),
        ("FAULTS that would stop the pipeline", found.faults),
    ):
        lines += _list(title, items, limit=None if everything else LONGEST_LIST)
    return "\n".join(lines)


def missing_sequences(present: Iterable[SequenceName], wanted: Wanted) -> list[str]:
    """What lacks of subjects x 15 actions x 2 subactions x cameras; equal gaps share a line."""
    there = set(present)
    gaps: dict[tuple[int, int, tuple[int, ...]], list[int]] = defaultdict(list)
    for subject, action, subaction in product(wanted.subjects, H36M_ACTIONS, SUBACTIONS):
        names = [SequenceName(subject, action, subaction, camera) for camera in wanted.cameras]
        cameras = tuple(name.camera for name in names if name not in there and not wanted.leaves_out(name))
        if cameras:
            gaps[subject, subaction, cameras].append(action)
    subjects: dict[tuple[int, tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
    for (subject, subaction, cameras), actions in gaps.items():
        subjects[subaction, cameras, tuple(actions)].append(subject)
    lines = []
    for (subaction, lost, which), who in subjects.items():
        what = "every action" if len(which) == len(H36M_ACTIONS) else f"action {_listed(which)}"
        seen = "all cameras" if len(lost) == len(wanted.cameras) else f"camera {_listed(lost)}"
        lines.append(f"{', '.join(f'S{s}' for s in who)}: subaction {subaction} of {what}, {seen}")
    return lines


def _parts(found: Survey) -> list[str]:
    listings = found.listings.values()
    suffixes = Counter(listing.mask_suffix() for listing in listings if listing.masks)
    masks = ", ".join(f"{suffix} in {n} sequences" for suffix, n in sorted(suffixes.items()))
    mats = sum(listing.meta is not None for listing in listings)
    lines = [
        f"  images/  {found.files['images']} files, {len(listings)} sequences are used",
        f"  masks/   {masks or 'none: the difference to the background stands in'}",
        f"  .mat     {found.beside} beside the images, {mats - found.beside} under annotations/; "
        f"{found.distorted} with a lens distortion",
    ]
    manifest = found.root / NAME
    if manifest.is_file():
        try:
            listed: int | str = pq.read_metadata(manifest).num_rows
        except (pa.ArrowException, OSError):
            listed = "an unknown number of"
        files = sum(found.files.values())
        lines.append(f"  {NAME} lists {listed} files" + ("" if listed == files else
                     f", but {files} are here; write it anew with geobody manifest"))  # fmt: skip
    else:
        lines.append(f"  {NAME} is not written yet: geobody manifest {found.root}")
    return lines


def _table(found: Survey, wanted: Wanted) -> list[str]:
    """Subjects x actions: cameras of subaction 1 + of subaction 2."""
    lines = ["sequences: cameras of subaction 1 + of subaction 2, by subject and action"]
    lines.append("     " + "".join(f"{action:>4}" for action in H36M_ACTIONS) + "   images  size")
    count = Counter((name.subject, name.action, name.subaction) for name in found.listings)
    for subject in wanted.subjects:
        pairs = [[count[subject, a, s] for s in SUBACTIONS] for a in H36M_ACTIONS]
        cells = ["+".join(map(str, pair)) if any(pair) else "." for pair in pairs]
        frames = sum(len(x.frames) for name, x in found.listings.items() if name.subject == subject)
        sizes = ", ".join(sorted(found.sizes[subject]))
        lines.append(f"{f'S{subject}':<5}" + "".join(f"{c:>4}" for c in cells) + f"{frames:>9}  {sizes}")
    total = sum(len(x.frames) for x in found.listings.values())
    lines.append(f"all  {'':60}{total:>9}")
    return lines


def _list(title: str, items: Sequence[str], *, limit: int | None) -> list[str]:
    shown = items if limit is None or len(items) <= limit else items[: limit - 1]
    lines = [f"{title}: {len(items) or 'none'}", *(f"  {item}" for item in shown)]
    if len(shown) < len(items):
        lines.append(f"  ... and {len(items) - len(shown)} more (--all shows them)")
    return lines


def _within(root: Path, error: DataError) -> str:
    return str(error).replace(f"{root}/", "")


def _and_more(n: int) -> str:
    return f", as are {n} more in its folder" if n else ""


def _some(frames: np.ndarray) -> str:
    first = ", ".join(map(str, frames[:3].tolist()))
    return f"frame{'s' if len(frames) > 1 else ''} {first}{', ...' if len(frames) > 3 else ''}"


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
