"""What a data set's file names say: which images, masks and ``.mat`` each sequence has.

Files are entered a folder at a time, from a manifest or from a walk through the tree, and kept as numbers,
so that a million of them take megabytes.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from geobody.conventions import EVALUATION_SUBJECTS
from geobody.data.h36m import (
    FRAME_PATTERN,
    IMAGE_SUFFIX,
    MASK_SUFFIXES,
    META_NAME,
    SequenceName,
    is_sequence,
    parse_folder,
    parse_frame,
)
from geobody.data.manifest import MAKE_MANIFEST, PARTS, read_manifest
from geobody.errors import DataError

_REMOVE_ONE: Final = "remove one of the two and write the manifest again"


@dataclass
class Listing:
    """Files of one sequence; paths are relative to the data set's root."""

    images: PurePosixPath | None = None
    """Folder of the images."""
    frames: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """Sorted numbers of the images."""
    meta: str | None = None
    """The ``.mat``."""
    masks: dict[str, tuple[PurePosixPath, NDArray[np.int32]]] = field(default_factory=dict)
    """Folder and sorted numbers of the masks, by suffix."""

    def at_stride(self, stride: int) -> NDArray[np.int32]:
        """Numbers of the images that are used: 1, 1 + stride, ..."""
        return self.frames[(self.frames - 1) % stride == 0]

    def mask_suffix(self) -> str:
        """Suffix of the masks that are used."""
        return next((suffix for suffix in MASK_SUFFIXES if suffix in self.masks), MASK_SUFFIXES[0])

    def unmasked(self, frames: NDArray[np.int32]) -> NDArray[np.int32]:
        """Those of ``frames`` that have no mask."""
        _, present = self.masks.get(self.mask_suffix(), (None, np.zeros(0, np.int32)))
        return frames[~np.isin(frames, present)]


@dataclass(frozen=True)
class Choice:
    """Which sequences of a data set are used."""

    names: list[SequenceName]
    """Sorted; bodies for evaluation alone (``conventions.EVALUATION_SUBJECTS``) are among them."""
    excluded: dict[str, int]
    """Sequences that each exclusion takes out."""
    misnamed: list[DataError]
    """Of the folders of images whose names are no sequences'."""


def choose_sequences(
    listings: Mapping[str, Listing],
    root: Path,
    *,
    exclude: Sequence[str],
    subjects: Collection[int],
    cameras: Collection[int],
) -> Choice:
    """Those with images that no folder or pattern of ``exclude`` names, of the subjects and the cameras."""
    choice = Choice([], dict.fromkeys(exclude, 0), [])
    for folder, listing in sorted(listings.items()):
        if listing.images is None:
            continue
        hits = [pattern for pattern in choice.excluded if fnmatchcase(folder, pattern)]
        for pattern in hits:
            choice.excluded[pattern] += 1
        if hits:
            continue
        try:
            name = parse_folder(root / listing.images)
        except DataError as error:
            choice.misnamed.append(error)
            continue
        if name.camera in cameras and (name.subject in subjects or name.subject in EVALUATION_SUBJECTS):
            choice.names.append(name)
    choice.names.sort()
    return choice


def read_listings(manifest: Path) -> dict[str, Listing]:
    """Listings by sequence folder. Raises DataError for a manifest or a name that is wrong."""
    root, listings = manifest.parent, dict[str, Listing]()
    for paths in read_manifest(manifest):
        split = pa.compute.extract_regex(paths, pattern="^(?P<folder>.*)/(?P<name>[^/]*)$")
        folders = split.field("folder").dictionary_encode()
        codes, names = folders.indices.to_numpy(), split.field("name")
        starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]]).tolist()
        for start, end in zip(starts, [*starts[1:], len(codes)], strict=True):
            place = PurePosixPath(folders.dictionary[int(codes[start])].as_py())
            if place.parts[0] not in PARTS:
                raise DataError(
                    manifest, f"lists {place}, which is in none of {', '.join(PARTS)}", MAKE_MANIFEST
                )
            enter_files(listings, place, names.slice(start, end - start), root=root)
    if not any(listing.images for listing in listings.values()):
        raise DataError(manifest, "lists no images", MAKE_MANIFEST)
    return listings


def enter_files(
    listings: dict[str, Listing], place: PurePosixPath, names: pa.StringArray, *, root: Path
) -> None:
    """Enters files ``names`` of the folder ``place``, or further ones of it.

    What is neither image, mask nor ``.mat`` stays out. Raises DataError for a name that is no frame's and
    for a sequence that is there twice.
    """
    part, listing = place.parts[0], listings.setdefault(place.name, Listing())
    if part in ("images", "annotations") and pa.compute.any(pa.compute.equal(names, META_NAME)).as_py():
        if listing.meta not in (None, f"{place}/{META_NAME}"):
            raise DataError(root / place / META_NAME, f"is there twice, also as {listing.meta}", _REMOVE_ONE)
        listing.meta = f"{place}/{META_NAME}"
    for suffix in {"images": (IMAGE_SUFFIX,), "masks": MASK_SUFFIXES}.get(part, ()):
        chosen = names.filter(pa.compute.ends_with(names, suffix))
        if not len(chosen):
            continue
        if part == "images":
            first = listing.images or place
            listing.images, listing.frames = first, _with(listing.frames, chosen, place, root)
        else:
            first, frames = listing.masks.get(suffix, (place, np.zeros(0, np.int32)))
            listing.masks[suffix] = first, _with(frames, chosen, place, root)
        if first != place:
            raise DataError(root / place, f"is there twice, also as {first}", _REMOVE_ONE)


def _with(
    frames: NDArray[np.int32], names: pa.StringArray, place: PurePosixPath, root: Path
) -> NDArray[np.int32]:
    """``frames`` and those of further files; zeros in a folder that is no sequence's: that is found later."""
    if not is_sequence(place.name):
        return np.union1d(frames, [0]).astype(np.int32)
    parsed = pa.compute.extract_regex(names, pattern=FRAME_PATTERN)
    good = pa.compute.equal(parsed.field("stem"), place.name)
    numbers = pa.compute.if_else(good, parsed.field("number"), "0").cast(pa.int32()).to_numpy()
    wrong = np.flatnonzero(numbers < 1)
    if len(wrong):
        parse_frame(root / place / names[int(wrong[0])].as_py(), place.name)  # says what is wrong with it
    return np.union1d(frames, numbers).astype(np.int32)
