"""Requests under way are bounded, and one model cannot take all the room."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from service.admission import Admission, Share
from service.errors import Overloaded


def filled(share: Share, *names: str) -> dict[str, int]:
    """What each gets who take one at a time, in turns, as long as they can."""
    taking = list(names)
    while taking:
        for name in list(taking):
            try:
                share.take(name, 1)
            except Overloaded:
                taking.remove(name)
    return dict(share.held)


def test_one_who_takes_all_they_can_get_leaves_half() -> None:
    assert filled(Share("things", 100), "a") == {"a": 50}


def test_two_who_take_all_they_can_get_leave_a_third_for_another() -> None:
    share = Share("things", 99)
    assert filled(share, "a", "b") == {"a": 33, "b": 33}
    share.take("c", 1)


def test_who_is_alone_may_take_as_much_as_there_is_at_once() -> None:
    Share("things", 100).take("a", 100)
    with pytest.raises(Overloaded) as caught:
        Share("things", 100).take("a", 101)
    assert (caught.value.field, caught.value.limit) == ("things", 100)


def test_what_was_given_back_is_free_again_and_leaves_no_trace() -> None:
    share = Share("things", 10)
    share.take("a", 7)
    share.give_back("a", 7)
    assert share.total == 0
    assert not share.held


@pytest.mark.parametrize(
    ("requests", "nbytes", "field", "limit"),
    [(4, 10**6, "max_requests", 4), (100, 40, "max_request_bytes", 40)],
)
def test_beyond_the_limit_a_request_is_refused_and_another_model_has_room(
    requests: int, nbytes: int, field: str, limit: int
) -> None:
    admission = Admission(requests=requests, nbytes=nbytes)
    with ExitStack() as under_way:
        for _ in range(2):
            under_way.enter_context(admission.enter("a", 10))
        with pytest.raises(Overloaded) as caught, admission.enter("a", 10):
            pass
        assert (caught.value.field, caught.value.limit) == (field, limit)
        assert repr(admission) == "<Admission requests=2 bytes=20>"
        with admission.enter("b", 10):
            pass
    assert repr(admission) == "<Admission requests=0 bytes=0>"


def test_a_body_that_turns_out_larger_takes_more_room_if_there_is_some() -> None:
    admission = Admission(requests=9, nbytes=100)
    with admission.enter("a", 10) as booking:
        booking.hold(40)
        booking.hold(20)  # what it had already
        assert admission.bytes.total == 40
        with pytest.raises(Overloaded):
            booking.hold(90)
        assert admission.bytes.total == 40
    assert repr(admission) == "<Admission requests=0 bytes=0>"


def test_a_request_that_fails_makes_room_too() -> None:
    admission = Admission(requests=4, nbytes=40)
    with pytest.raises(ArithmeticError), admission.enter("a", 10):
        raise ArithmeticError
    assert repr(admission) == "<Admission requests=0 bytes=0>"


def test_the_backlog_is_worked_off_at_the_pace_at_which_requests_have_ended() -> None:
    now = 0.0
    admission = Admission(requests=1000, nbytes=1, clock=lambda: now)
    under_way = [ExitStack() for _ in range(30)]
    for one in under_way:
        one.enter_context(admission.enter("a", 0))
    assert admission.backlog("a") == 0  # nothing is known
    for one in under_way[:10]:
        now += 0.5
        one.close()
    assert admission.backlog("a") == pytest.approx(20 * 0.5)
    for _ in range(100):  # what is refused says nothing of the pace
        with pytest.raises(ArithmeticError), admission.enter("a", 0):
            raise ArithmeticError
    assert admission.backlog("a") == pytest.approx(20 * 0.5)
    assert admission.backlog("b") == 0
    for one in under_way[10:]:
        one.close()
    now += 100
    with admission.enter("a", 0):  # the time without any says nothing
        assert admission.backlog("a") == 0
