"""The way in: may this caller spend, and is the intent durable before anything is sent?"""

from __future__ import annotations

from proxy import errors
from proxy.core import clip
from proxy.core.budget import Limit, OverLimit
from proxy.core.caller import Caller
from proxy.core.failure import Reason
from proxy.core.pricing import format_usd
from proxy.core.replay import Earlier
from proxy.flows.claim import Claim, key_life
from proxy.flows.generation import Ask, Generation
from proxy.flows.house import House
from proxy.flows.settle import Settlement
from proxy.store.admission import Admission, KeyGone, admit
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.earlier import free_key
from proxy.store.generations import (
    AttemptEnd,
    GenerationEnd,
    end_attempt,
    end_generation,
    find_generation,
)

_BUDGETS = frozenset({Limit.CLIPS_PER_MONTH, Limit.USD_PER_MONTH})


def quote(house: House, caller: Caller, ask: Ask, claim: Claim) -> Generation:
    """A generation with its ids, its price and the order of gateways; nothing is written yet.

    `claim` says which earlier one it may repeat. Raises `ProxyError` for a model that the caller
    may not use or that has no price.
    """
    if house.draining:
        raise errors.draining()
    name = ask.model.name
    if not caller.may_use(name):
        raise errors.model_not_allowed(ask.asked_model)
    now, started = house.clock.now(), house.clock.monotonic()
    price = house.prices.quote(name, now.date())
    if price is None:
        house.metrics.unpriced(ask.clips)
        raise errors.model_without_price(name)
    return Generation(
        id=house.mint("gen"),
        clip_ids=tuple(house.mint("video") for _ in range(ask.clips)),
        caller=caller,
        ask=ask,
        price=price,
        accepted_at=now,
        started=started,
        deadline=started + house.config.limits.answer_seconds_max,
        gateways=house.fleet.plan(),
        claim=claim,
    )


async def take_hold(
    house: House, generation: Generation, claim: Claim, prompt: str | None = None
) -> Earlier | None:
    """Write the generation, its clips, their holds and the first attempt: the intent (law 4).

    Where by its `claim` it repeats an earlier one that is told instead, and nothing is held.
    `prompt` is kept for the tenant to see, unless it is None. Raises `ProxyError` when a limit, a
    revoked key or the database forbids it; nothing was written then.
    """
    admission = Admission(
        generation_id=generation.id,
        clip_ids=generation.clip_ids,
        tenant_id=generation.caller.tenant_id,
        key_id=generation.caller.key_id,
        mode=generation.ask.mode,
        model=generation.ask.model.name,
        asked_model=generation.ask.asked_model,
        stream=generation.ask.stream,
        body_hash=generation.body_hash,
        price=generation.price,
        vendor_clips_in_flight=house.config.limits.vendor_clips_in_flight,
        now=generation.accepted_at,
        process_id=house.process_id,
        gateway=generation.gateways[0],
        prompt=prompt,
        idempotency_key=claim.key,
        key_expires_at=generation.accepted_at + key_life(house.config),
        retry_count=claim.retry_count,
        reuse=claim.reuse,
        reusable=house.config.replay.reuse != "never",
    )
    try:
        answer = await house.database.write(lambda tx: admit(tx, admission))
    except LedgerUnavailable as away:
        if away.maybe_committed:  # a hold of which nobody knows would be held for ever
            house.settler.later(_unsent(house, generation))
        raise errors.ledger_unavailable() from None
    if isinstance(answer, KeyGone):
        raise errors.invalid_api_key()
    if isinstance(answer, OverLimit):
        raise _refusal(answer)
    return answer if isinstance(answer, Earlier) else None


def _unsent(house: House, generation: Generation) -> Settlement:
    """What ends a request that was never sent, if it turns out to have been written down."""
    now, reason = house.clock.now(), Reason.UNREACHABLE
    attempt_ended = AttemptEnd("unreachable", now, reason="unsent")
    end = GenerationEnd("refused", now, None, reason)

    def is_written(tx: Connection) -> bool:
        return find_generation(tx, generation.caller.tenant_id, generation.id) is not None

    def last(tx: Connection) -> None:
        end_attempt(tx, generation.id, 1, attempt_ended)
        end_generation(tx, generation.id, end)
        free_key(tx, generation.id)  # its caller is told to send it again

    refused = [(clip_id, clip.Refused(reason)) for clip_id in generation.clip_ids]
    return Settlement(refused, now, last=last, held=is_written)


def _refusal(over: OverLimit) -> errors.ProxyError:
    if over.limit in _BUDGETS:
        money = over.limit is Limit.USD_PER_MONTH
        allowed = f"${format_usd(over.allowed)}" if money else f"{over.allowed:,} clips"
        return errors.insufficient_quota(over.limit, allowed)
    return errors.rate_limit_exceeded(over.limit, over.allowed, over.retry_after_seconds or 1)
