"""Errors reach the user in one line, from a worker process as well."""

import pickle
from pathlib import Path

from geobody.errors import DataError


def test_a_data_error_survives_the_way_back_from_a_worker() -> None:
    error = DataError(Path("a/b.mat"), "has no R", "copy it again")
    back = pickle.loads(pickle.dumps(error))
    assert str(back) == "a/b.mat: has no R; copy it again"
    assert back.path == Path("a/b.mat")
    assert back.exit_code == 3
