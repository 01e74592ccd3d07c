"""What a network sees of a crop: ``params.yaml: training.track``, one for arms and controls alike."""

from typing import Final

from torch import Tensor

from geobody.errors import ParamsError

TRACKS: Final = ("rgb", "masked")


def require_track(track: str) -> str:
    """``track`` itself; raises ``ParamsError`` for an unknown one."""
    if track not in TRACKS:
        raise ParamsError(f"params.yaml: training.track: value {track!r}: one of {', '.join(TRACKS)}")
    return track


def network_input(images: Tensor, masks_diff: Tensor, *, track: str) -> Tensor:
    """Images (B,3,S,S) as they are ("rgb"), or before black by their difference masks (B,1,S,S) ("masked")."""
    return images * masks_diff if track == "masked" else images


def known_masks(masks: Tensor, masks_diff: Tensor, *, track: str) -> Tensor:
    """Which masks (B,1,S,S) may tell the person from the room in what a network sees, as when colours change.

    The data set's ``masks`` ("rgb"). On the track "masked" they would show the true outline within ``masks_diff``,
    which are all that tells them apart there.
    """
    return masks_diff if track == "masked" else masks
