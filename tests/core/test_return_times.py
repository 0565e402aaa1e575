"""Times at which refused requests may come again: each has its own, and room is held as far as clients obey."""

from __future__ import annotations

from orcinus.core.return_times import HOLD, ReturnTimes


def busy(each: float = 0.1) -> ReturnTimes:
    """An engine that ends a request every so many seconds, and refuses others."""
    times = ReturnTimes()
    for number in range(200):
        times.full(number * each)
        times.ended(number * each)
    return times


def test_times_are_no_closer_to_each_other_than_requests_end() -> None:
    times, now = busy(0.1), 100.0
    dues = [now + times.book(key, now, 0.3, None, hold=True) for key in range(60)]
    assert min(dues) == now + 1
    fastest = 10 / HOLD * 2  # in a second, while every other one is expected to come
    assert all(sum(abs(one - due) < 0.5 for one in dues) <= fastest for due in dues)
    assert max(dues) >= now + 3


def test_a_request_is_known_when_it_comes_again_and_not_before() -> None:
    times = busy()
    wait = times.book(7, 50.0, 3.2, None, hold=True)
    assert wait == 4
    assert times.take(7, 51.0) is None
    assert times.take(8, 54.0) is None
    assert times.take(7, 54.0) == 54.0
    assert times.take(7, 54.0) is None


def test_equal_requests_of_many_clients_are_told_different_times() -> None:
    times, now = busy(0.5), 100.0
    dues = sorted(now + times.book(7, now, 0.0, None, hold=True) for _ in range(12))
    assert dues[-1] - dues[0] > 2
    assert [times.take(7, due) is not None for due in dues] == [True] * 12


def test_room_is_held_for_those_who_come() -> None:
    times = busy(0.1)
    for number in range(200):  # all obey
        due = times.book(number, float(number), 0.0, None, hold=True)
        assert times.take(number, number + due) is not None
    for key in range(5):
        times.book(1000 + key, 500.0, 0.5, None, hold=True)
    assert 0.4 < times.held(501.0, 502.0) / times.reserve <= 0.51
    assert times.held(500.0, 502.0) < times.held(501.0, 502.0), "the engine has a second until then"
    assert times.held(500.0, 500.5) == 0
    assert 0.19 < times.held(501.0, 502.0, free=3) / times.reserve <= 0.2, "three of them find a place at once"
    assert times.held(501.0, 502.0, free=5) == 0


def test_clients_who_go_away_cost_no_room_for_long() -> None:
    times = busy(0.1)
    for number in range(100):
        times.book(number, float(number), 0.0, None, hold=True)
    assert times.held(101.0, 103.0) < 0.05


def test_after_broken_promises_more_room_is_held_and_after_kept_ones_less() -> None:
    times = busy()
    times.book(1, 50.0, 0.0, None, hold=True)
    before = times.held(51.0, 52.0)
    times.book(2, 50.0, 0.0, 49.0, hold=False)  # it came as it was told, and is refused again
    assert times.held(51.0, 52.0) > 1.4 * before
    for _ in range(100):
        times.accepted(49.0)
    assert times.held(51.0, 52.0) < before
