"""Requests under way are bounded, and one model cannot take all the room."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from service.admission import Admission, Share
from service.errors import Overloaded


def filled(share: Share, *names: str) -> dict[str, int]:
    """What each gets who take one at a time, in turns, as long as they can."""
    while taking := [name for name in names if share.fits(name, 1)]:
        for name in taking:
            if share.fits(name, 1):
                share.take(name, 1)
    return dict(share.held)


def test_one_who_takes_all_they_can_get_leaves_half() -> None:
    assert filled(Share(100), "a") == {"a": 50}


def test_two_who_take_all_they_can_get_leave_a_third_for_another() -> None:
    share = Share(99)
    assert filled(share, "a", "b") == {"a": 33, "b": 33}
    assert share.fits("c", 1)


def test_who_is_alone_may_take_as_much_as_there_is_at_once() -> None:
    assert Share(100).fits("a", 100)
    assert not Share(100).fits("a", 101)


def test_what_was_given_back_is_free_again_and_leaves_no_trace() -> None:
    share = Share(10)
    share.take("a", 7)
    share.give_back("a", 7)
    assert share.total == 0
    assert not share.held


@pytest.mark.parametrize(
    ("requests", "nbytes", "field", "limit"),
    [(4, 10**6, "max_requests", 4), (100, 40, "max_request_bytes", 40)],
)
def test_beyond_the_limit_a_request_is_told_when_to_come_back(
    requests: int, nbytes: int, field: str, limit: int
) -> None:
    admission = Admission(requests=requests, nbytes=nbytes)
    with ExitStack() as under_way:
        for _ in range(2):
            under_way.enter_context(admission.enter("a", 10, lambda: 0))
        with pytest.raises(Overloaded) as caught, admission.enter("a", 10, lambda: 6.2):
            pass
        assert (caught.value.field, caught.value.limit, caught.value.retry_after) == (field, limit, 7)
        assert repr(admission) == "<Admission requests=2 bytes=20>"
        with admission.enter("b", 10, lambda: 0):  # another model has room all the same
            pass
    assert repr(admission) == "<Admission requests=0 bytes=0>"


def test_a_request_that_fails_makes_room_too() -> None:
    admission = Admission(requests=4, nbytes=40)
    with pytest.raises(ArithmeticError), admission.enter("a", 10, lambda: 0):
        raise ArithmeticError
    assert repr(admission) == "<Admission requests=0 bytes=0>"
