import pytest

from geobody.errors import DataError, ParamsError
from geobody.parallel import in_parallel


def square(number: int) -> int:
    if number == 13:
        raise DataError(f"{number}.jpg", "is unlucky", "take another")
    if number == 14:
        raise ParamsError("params.yaml: x.y: 14 is wrong")
    return number * number


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_order(jobs):
    found = list(in_parallel(square, range(10), total=10, desc="squares", jobs=jobs))
    assert found == [number * number for number in range(10)]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("number", "kind"), [(13, DataError), (14, ParamsError)])
def test_an_error_in_a_worker_is_the_users_error(jobs, number, kind):
    with pytest.raises(kind) as caught:
        list(in_parallel(square, [1, 2, number, 3], total=4, desc="squares", jobs=jobs))
    with pytest.raises(kind) as expected:
        square(number)
    assert str(caught.value) == str(expected.value)
    assert caught.value.exit_code == expected.value.exit_code
    assert vars(caught.value) == vars(expected.value)
