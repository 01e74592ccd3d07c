"""`Predictor` on images that are crops already, beside its bare networks and body; see benchmark predict."""

from pathlib import Path

from geobody.data.user_crops import Request
from geobody.predict import Predictor
from tools.bench.predict import GOAL, bare, images_of
from tools.bench.timing import Comparison, compare


def run(repository: Path, *, repeats: int) -> Comparison:
    """Compares with the networks and test images of ``repository``: DataError says what is missing."""
    predictor, found = Predictor.open(repository), images_of(repository)
    crops = predictor.crops_of(
        [
            Request(boxed.image, name=boxed.name, way="box", box=boxed.box, mask=boxed.difference)
            for boxed in found
        ]
    )
    images = [crop.image for crop in crops]
    masks = [crop.mask for crop in crops if crop.mask is not None] if predictor.needs_masks else None

    def call() -> None:
        predictor(images, masks=masks, crop="whole")

    return compare(
        subject=(f"predict {len(images)} crops", call),
        reference=(
            f"networks and body on {len(images)} crops",
            bare(predictor, len(images), searches=0),
        ),
        repeats=repeats,
        goal=GOAL,
    )
