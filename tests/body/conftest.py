"""A small open body, built once for all tests of the package: 60 adults and 80 poses instead of 1,200 and 300."""

import pytest

from geobody.body.open_body import OpenBody, OpenBodyBuilder

SIZES = (6890, 3445, 1723)


@pytest.fixture(scope="session")
def builder() -> OpenBodyBuilder:
    return OpenBodyBuilder(sizes=SIZES)


@pytest.fixture(scope="session")
def small_open_body(builder: OpenBodyBuilder) -> OpenBody:
    return builder.build(bodies=60, poses=80, seed=7)
