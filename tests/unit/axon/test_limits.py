"""The token bucket: a minute's worth at once, then as much as the clock gives back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gradients.axon.limits import KNOWN_CALLERS, RateLimiter


def test_a_minutes_worth_may_come_at_once() -> None:
    limiter = RateLimiter(per_minute=3)

    assert [limiter.allows("a", now=0.0) for _ in range(4)] == [True, True, True, False]


def test_tokens_come_back_with_time() -> None:
    limiter = RateLimiter(per_minute=60)
    for _ in range(60):
        limiter.allows("a", now=0.0)

    assert not limiter.allows("a", now=0.5)  # half a token
    assert limiter.allows("a", now=1.0)
    assert not limiter.allows("a", now=1.5)


def test_callers_do_not_share_tokens() -> None:
    limiter = RateLimiter(per_minute=1)

    assert [limiter.allows(caller, now=0.0) for caller in ("a", "b", "a", "b")] == [True, True, False, False]


def test_the_least_recently_seen_is_forgotten_first() -> None:
    limiter = RateLimiter(per_minute=1)
    limiter.allows("first", now=0.0)
    limiter.allows("second", now=0.0)
    limiter.allows("first", now=0.0)
    for number in range(KNOWN_CALLERS - 1):
        limiter.allows(str(number), now=0.0)

    assert not limiter.allows("first", now=0.0)
    assert limiter.allows("second", now=0.0)


@given(
    per_minute=st.integers(1, 1000),
    gaps=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200),
)
def test_no_more_is_allowed_than_a_burst_and_what_time_gives(per_minute: int, gaps: list[float]) -> None:
    limiter, now, allowed = RateLimiter(per_minute), 0.0, 0
    for gap in gaps:
        now += gap
        allowed += limiter.allows("a", now=now)

    assert allowed <= per_minute + per_minute / 60 * now + 1e-6
