"""A background with a person in it shows in the report."""

import cv2
import numpy as np
import pytest

from geobody.data.backgrounds import write_backgrounds
from geobody.data.index import Index, build_index
from geobody.report.background_report import background_report
from h36m_tree import write_tree


def test_a_patch_that_no_image_has_adds_its_share_of_the_pixels(tmp_path):
    tree = write_tree(tmp_path, subjects=(1, 9), actions=(2, 3, 4), frames=7)
    subjects = {"train_subjects": (1,), "test_subjects": (9,)}
    folder = tmp_path / "index"
    build_index(manifest=tree.manifest, output=folder, **subjects)
    index = Index.open(folder)
    paths = write_backgrounds(index, root=tree.root, output=tmp_path / "b", frames=21)
    clean = background_report(index, paths, root=tree.root)
    assert clean["backgrounds"] == 8
    assert clean["images_checked"] == 8 * 4
    for path in paths:
        picture = cv2.imread(str(path))
        picture[:24, :25] ^= 128  # a corner where nobody stands, half the range away
        cv2.imwrite(str(path), picture)
    spoilt = background_report(index, paths, root=tree.root)
    patch_pct = 100 * 24 * 25 / np.prod(picture.shape[:2])
    for camera, share in clean["differs_pct"].items():
        assert 0 < share < 30
        assert spoilt["differs_pct"][camera] - share == pytest.approx(patch_pct, abs=0.3)
