"""Which instants carry labels: nested shares of the labelled subjects' time, and blocks held out.

A label is the pose of an instant, so all its views are labelled together. The last frames of each
sequence are held out in one block: neighbours in time are near copies, and a random hold-out would
measure memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from geobody.errors import ParamsError

GOLDEN_RATIO: Final = (np.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class LabelSplit:
    """Rows of the crops whose labels may be used.

    train     (N,) int64, sorted: labels that a loss may see.
    held_out  (M,) int64, sorted: the held-out blocks of the same subjects, for reports alone. They
              stay whole when fewer labels are trained on.
    """

    train: np.ndarray
    held_out: np.ndarray


def split_labels(
    table: Mapping[str, np.ndarray],
    *,
    subjects: Sequence[int],
    fraction: float = 1.0,
    held_out_fraction: float = 0.1,
) -> LabelSplit:
    """The rows of ``table`` that carry labels.

    ``table`` holds columns of equal length: subject, action, subaction, frame, instant, is_train.
    ``fraction`` of the instants that are not held out are labelled, subject by subject, evenly
    spread over sequences and time; the instants of a smaller fraction are among those of a larger
    one. ``held_out_fraction`` of each sequence's instants (at least one of two) is held out.
    Raises ParamsError for a subject without rows and for one of the test split.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction}: in (0, 1]")
    if not 0 <= held_out_fraction < 1:
        raise ValueError(f"held_out_fraction {held_out_fraction}: in [0, 1)")
    train: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for subject in sorted(set(subjects)):
        rows = np.flatnonzero(table["subject"] == subject)
        if len(rows) == 0:
            present = ", ".join(str(number) for number in np.unique(table["subject"]))
            raise ParamsError(f"params.yaml: labels: subject {subject} has no crops; present are {present}")
        if not np.all(table["is_train"][rows]):
            raise ParamsError(
                f"params.yaml: labels: subject {subject} is a test subject, whose labels only eval may see"
            )
        kept, block = _hold_out_blocks({name: table[name][rows] for name in _ORDER}, held_out_fraction)
        count = max(1, round(fraction * len(kept)))
        chosen = kept[evenly_spread_ranks(len(kept)) < count]
        train.append(rows[np.isin(table["instant"][rows], chosen)])
        held_out.append(rows[np.isin(table["instant"][rows], block)])
    return LabelSplit(np.sort(np.concatenate(train)), np.sort(np.concatenate(held_out)))


def label_splits(
    table: Mapping[str, np.ndarray],
    *,
    subjects: Sequence[int],
    fraction: float,
    held_out_fraction: float,
    ceiling_subjects: Sequence[int],
) -> dict[str, LabelSplit]:
    """The labels of ``cnn_s1`` (those that pose head and regressor get too) and those of ``cnn_all``."""
    return {
        name: split_labels(table, subjects=whose, fraction=share, held_out_fraction=held_out_fraction)
        for name, whose, share in (("cnn_s1", subjects, fraction), ("cnn_all", ceiling_subjects, 1.0))
    }


def report_groups(
    table: Mapping[str, np.ndarray], split: LabelSplit, *, subjects: Sequence[int]
) -> dict[str, np.ndarray]:
    """Rows by the group that a training reports on: labelled_train, labelled_held_out, subject_05, ...

    The last are the training subjects that are not among the labelled ``subjects``, each whole; of the
    test subjects there is none.
    """
    groups = {"labelled_train": split.train, "labelled_held_out": split.held_out}
    for subject in np.setdiff1d(table["subject"][table["is_train"]], subjects):
        groups[f"subject_{subject:02d}"] = np.flatnonzero(table["is_train"] & (table["subject"] == subject))
    return groups


def evenly_spread_ranks(count: int) -> np.ndarray:
    """(count,) int64: an order of 0..count-1 in which every beginning is spread evenly.

    The multiples of the golden ratio, modulo one, leave no large gap at any length (the three-gap
    theorem), and no draw is needed.
    """
    position = np.argsort((np.arange(1, count + 1) * GOLDEN_RATIO) % 1.0, kind="stable")
    ranks = np.empty(count, dtype=np.int64)
    ranks[position] = np.arange(count)
    return ranks


_ORDER: Final = ("action", "subaction", "frame", "instant")


def _hold_out_blocks(columns: Mapping[str, np.ndarray], fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Instants in order of time and the held-out ones, of one subject."""
    instants, first = np.unique(columns["instant"], return_index=True)
    action, subaction, frame = (columns[name][first] for name in ("action", "subaction", "frame"))
    order = np.lexsort((frame, subaction, action))
    instants, action, subaction = instants[order], action[order], subaction[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(action) != 0) | (np.diff(subaction) != 0)])
    kept: list[np.ndarray] = []
    block: list[np.ndarray] = []
    for sequence in np.split(instants, starts[1:]):
        count = round(fraction * len(sequence))
        if fraction > 0 and len(sequence) > 1:
            count = min(max(1, count), len(sequence) - 1)
        cut = len(sequence) - count
        kept.append(sequence[:cut])
        block.append(sequence[cut:])
    return np.concatenate(kept), np.concatenate(block)
