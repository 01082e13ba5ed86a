"""Many listeners to one answer: each hears all of it, and none can hold up another."""

from __future__ import annotations

import pytest

from proxy.flows.audience import Audience
from proxy.flows.listener import Broken, Listener


async def heard(listener: Listener | None) -> bytes:
    """All that the listener hears, to a proper end."""
    assert listener is not None
    said = b""
    while (part := await listener.read()) is not None:
        said += part
    return said


async def test_who_joins_hears_all_from_the_first_byte() -> None:
    audience = Audience(100, 100, 10)
    joined = [audience.join()]
    for part in (b"one ", b"two ", b"three"):
        await audience.offer(part, between=True)
        joined.append(audience.join())
    audience.end()
    joined.append(audience.join())
    assert [await heard(one) for one in (audience.first, *joined)] == [b"one two three"] * 6


async def test_the_whole_is_what_was_said_and_what_comes_last() -> None:
    audience = Audience(100, 10, 10)
    await audience.offer(b"12345", between=True)
    assert audience.whole(b"67890") == b"1234567890"
    assert audience.whole(b"678901") is None


async def test_what_is_too_long_to_be_kept_can_no_longer_be_joined() -> None:
    audience = Audience(100, 10, 10)
    early = audience.join()
    await audience.offer(b"0123456789", between=True)
    assert audience.can_be_joined
    await audience.offer(b"0", between=True)
    assert (audience.can_be_joined, audience.join(), audience.whole(b"")) == (False, None, None)
    audience.end()
    assert await heard(early) == await heard(audience.first) == b"01234567890"


async def test_only_so_many_may_join_and_who_was_let_go_makes_room() -> None:
    audience = Audience(10, 1_000, 2)
    one, two = audience.join(), audience.join()
    assert one is not None
    assert two is not None
    assert (audience.can_be_joined, audience.join()) == (False, None)
    one.drop()
    assert audience.join() is not None
    assert audience.dropped == 1


async def test_who_falls_behind_is_let_go_alone() -> None:
    audience = Audience(10, 1_000, 5)
    slow, quick = audience.join(), audience.join()
    assert slow is not None
    assert quick is not None
    for _ in range(4):
        await audience.offer(b"1234567", between=True)
        assert await quick.read() == await audience.first.read() == b"1234567"
    assert (slow.dropped, quick.dropped, audience.first.dropped) == (True, False, False)
    assert audience.dropped == 1
    with pytest.raises(Broken):
        await slow.read()


async def test_who_joins_late_may_have_all_that_was_said_waiting() -> None:
    audience = Audience(10, 1_000, 5)
    for _ in range(20):
        await audience.offer(b"1234567", between=True)
        await audience.first.read()
    late = audience.join()
    await audience.offer(b"1234567", between=True)
    audience.end()
    assert await heard(late) == b"1234567" * 21


async def test_an_answer_that_broke_off_looks_broken_to_all_and_is_joined_by_nobody() -> None:
    audience = Audience(100, 100, 5)
    joined = audience.join()
    assert joined is not None
    await audience.offer(b"x", between=True)
    audience.end(broken=True)
    audience.end()
    await audience.offer(b"late", between=True)
    for listener in (audience.first, joined):
        assert await listener.read() == b"x"
        with pytest.raises(Broken):
            await listener.read()
    assert (audience.join(), audience.whole(b"")) == (None, None)


async def test_a_joiner_is_between_events_where_the_answer_is() -> None:
    audience = Audience(100, 100, 5)
    await audience.offer(b"data: a", between=False)
    joined = audience.join()
    assert joined is not None
    assert await joined.read(0.01) == b"data: a"
    await audience.offer(b"\n\n", between=True)
    assert await joined.read(0.01) == b"\n\n"
    assert await joined.read(0.01) == b": keepalive\n\n"
