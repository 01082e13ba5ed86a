"""A tenant's videos: one, a page of them, or one less; each as OpenAI's `Video` object.

Everything is reached through its tenant: what belongs to another, was deleted or never was gets
the same answer (law 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from proxy import errors
from proxy.core.caller import Caller
from proxy.core.clip import FINAL, State
from proxy.core.failure import Reason
from proxy.core.playback import Playback, sign
from proxy.core.video import Video, deleted_json, list_json, model_of, poll_after_ms, video_json
from proxy.flows.house import House
from proxy.logs import event
from proxy.store.kept import VaultUnavailable, is_clip_id
from proxy.store.videos import Deletion, VideoRow, delete_video, list_videos

Shown = tuple[dict[str, object], list[tuple[str, str]]]
"""What a caller gets, ready for JSON, and the headers that belong to it."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which of its videos a tenant asks for; `after` is the last one of the page before."""

    after: str | None
    limit: int
    newest_first: bool


def view(house: House, row: VideoRow, link_base: str | None) -> Shown:
    """The clip as its tenant sees it now; with a signed link if it is kept and there is a base.

    While it is unfinished a header says when it is worth asking again.
    """
    headers = [("cache-control", "no-store")]
    if row.state not in FINAL:
        age = (house.clock.now() - row.accepted_at).total_seconds()
        pause = poll_after_ms(row.model, age, house.config.follow.poll_seconds)
        headers.append(("openai-poll-after-ms", str(pause)))
    return video_json(_video(house, row, link_base)), headers


def signed_link(house: House, row: VideoRow, link_base: str) -> str:
    """A link that plays the clip for `vault.signed_link_seconds`, without a key."""
    until = house.clock.now() + timedelta(seconds=house.config.vault.signed_link_seconds)
    query = sign(Playback(row.id, row.tenant_id, until), house.playback_keys)
    return f"{link_base}/v1/videos/{quote(row.id, safe='')}/content?{query}"


async def retrieve(house: House, caller: Caller, clip_id: str, link_base: str) -> Shown:
    """One of the caller's own videos, from memory where that is fresh.

    Raises `ProxyError` for what is not there, and `LedgerUnavailable`.
    """
    if not is_clip_id(clip_id):
        raise errors.video_not_found()
    standing = await house.standings.look(caller.tenant_id, clip_id)
    row = standing.row
    if row is None:
        raise errors.video_not_found()
    video, headers = view(house, row, link_base)
    headers += [
        ("cache-status", standing.cache_status),
        ("x-clipmeter-generation", row.generation_id),
        ("x-clipmeter-attempts", str(row.attempts)),
    ]
    if row.gateway is not None:
        headers.append(("x-clipmeter-gateway", row.gateway))
    return video, headers


async def list_page(house: House, caller: Caller, page: Page, link_base: str) -> Shown:
    """A page of the caller's own videos, whichever way they were made.

    Raises `ProxyError` for an `after` that is none of them, and `LedgerUnavailable`.
    """
    after, limit = page.after, page.limit
    rows = None
    if after is None or is_clip_id(after):
        rows = await house.database.read(
            lambda tx: list_videos(
                tx, caller.tenant_id, after, limit + 1, newest_first=page.newest_first
            )
        )
    if rows is None:
        words = "after must be the id of one of your videos: the last one of the page before."
        raise errors.ProxyError("invalid_request", words, "after")
    videos = [_video(house, row, link_base) for row in rows[:limit]]
    headers = [("cache-control", "no-store"), ("cache-status", "clipmeter; fwd=bypass")]
    return list_json(videos, has_more=len(rows) > limit), headers


async def delete(house: House, caller: Caller, clip_id: str) -> Shown:
    """Forget one of the caller's own videos, its bytes and its prompt; never its charge.

    Raises `ProxyError` for what is not there or not finished, and `LedgerUnavailable`.
    """
    done = Deletion.ABSENT
    if is_clip_id(clip_id):
        now = house.clock.now()
        done = await house.database.write(
            lambda tx: delete_video(tx, caller.tenant_id, clip_id, now)
        )
    if done is Deletion.ABSENT:
        raise errors.video_not_found()
    if done is Deletion.UNFINISHED:
        raise _unfinished(house)
    house.standings.drop(clip_id)
    house.background.start(f"{clip_id} deleted", _delete_bytes(house, clip_id))
    return deleted_json(clip_id), [("cache-control", "no-store")]


async def _delete_bytes(house: House, clip_id: str) -> None:
    """Nobody reaches the bytes any more; what cannot be deleted now, a later sweep removes."""
    try:
        await house.vault.delete(clip_id)
    except VaultUnavailable as away:
        event("clip_bytes_not_deleted", level="warning", clip=clip_id, problem=str(away))


def _unfinished(house: House) -> errors.ProxyError:
    seconds = house.config.follow.poll_seconds
    words = (
        "The video is still being made, and the vendor has no way to cancel it. Delete it once "
        "GET /v1/videos/{id} says that it is completed or failed."
    )
    pause = ("openai-poll-after-ms", str(round(seconds * 1000)))
    return errors.ProxyError("video_not_ready", words, more_headers=[pause])


def _video(house: House, row: VideoRow, link_base: str | None) -> Video:
    model = model_of(row.model, house.catalog)
    url = None
    if row.keeping == "kept" and link_base is not None:
        url = signed_link(house, row, link_base)
    return Video(
        id=row.id,
        state=row.state,
        model=row.model,
        size=model.size,
        seconds=model.seconds,
        accepted_at=row.accepted_at,
        generation=row.generation_id,
        percent=row.percent or 0,
        ended_at=row.completed_at,
        expires_at=_expires_at(house, row),
        prompt=row.prompt,
        reason=None if row.reason is None else Reason(row.reason),
        words=row.vendor_text or "",
        url=url,
        gateway=row.gateway,
        attempts=row.attempts,
        cost_micros=_cost_micros(row),
    )


def _expires_at(house: House, row: VideoRow) -> datetime | None:
    """When the bytes go, or went: those that are kept by the vault's rule, others with their link.

    What the vault let go early, for want of room, went some time before now.
    """
    if row.kept_at is None or row.keeping in {"waiting", "lost"}:
        return row.link_dies_at
    kept_until = row.kept_at + timedelta(days=house.config.vault.retention_days)
    return kept_until if row.keeping == "kept" else min(kept_until, house.clock.now())


def _cost_micros(row: VideoRow) -> int | None:
    if row.state is State.DELIVERED:
        return row.price_micros
    return 0 if row.state in FINAL else None
