"""OpenAI's `Video` object, made of what we know of a clip; lists of it; when to ask again.

The vendor's own object is never passed on: the OpenAI SDK's `poll()` takes a state that it does not
know for an end, and the vendor's models, seconds and times are wrong (decision 4; wire facts,
section 8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.core.catalog import LANDSCAPE, PORTRAIT, Catalog, Model
from proxy.core.clip import UNSETTLED, State
from proxy.core.failure import Reason
from proxy.core.job import JobState
from proxy.core.pricing import format_usd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

LONGEST_SEEN_SECONDS: Final = 406
"""The longest generation on record (wire facts, 2.4)."""

SECONDS: Final = 8
"""How long every documented model's clips are."""

_WORDS_CHARS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Video:
    """One clip as its tenant sees it.

    `model`, `size` (WIDTHxHEIGHT) and `seconds` are those really made, whatever an alias was
    called. `percent` is the furthest progress seen; the caller keeps it from going back. `words`
    are the vendor's, `url` a signed link to the kept bytes. `cost_micros` is what the clip is
    charged, None while that is open.
    """

    id: str
    state: State
    model: str
    size: str
    seconds: int
    accepted_at: datetime
    generation: str
    percent: int = 0
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    prompt: str | None = None
    reason: Reason | None = None
    words: str = ""
    url: str | None = None
    gateway: str | None = None
    attempts: int = 0
    cost_micros: int | None = None


def model_of(name: str, catalog: Catalog) -> Model:
    """The model that made a clip; by the vendor's rule of names where the catalogue has it no more.

    Models come and go with the configuration, their clips stay.
    """
    size = LANDSCAPE if "-landscape" in name else PORTRAIT
    return catalog.find(name) or Model(name, size, SECONDS, images_min=0, images_max=0)


def status_of(state: State) -> JobState:
    """The OpenAI status of a clip.

    An unknown clip is still being looked for, so its callers go on waiting: it may be delivered
    yet. A clip is completed only when a link to it, or its bytes, are in our hands.
    """
    match state:
        case State.ACCEPTED | State.QUEUED:
            return JobState.QUEUED
        case State.GENERATING | State.IN_PROGRESS | State.UNKNOWN:
            return JobState.IN_PROGRESS
        case State.DELIVERED | State.REPLAYED:
            return JobState.COMPLETED
        case State.FAILED | State.WRITTEN_OFF:
            return JobState.FAILED


def video_json(video: Video) -> dict[str, object]:
    """The object that `POST /v1/videos` and `GET /v1/videos/{id}` answer, ready for JSON."""
    status = status_of(video.state)
    ended = video.state not in UNSETTLED
    made = {
        "generation": video.generation,
        "gateway": video.gateway,
        "attempts": video.attempts,
        "outcome": video.state.value,
        "cost_usd": None if video.cost_micros is None else format_usd(video.cost_micros),
    }
    return {
        "id": video.id,
        "object": "video",
        "model": video.model,
        "status": status.value,
        "progress": 100 if status is JobState.COMPLETED else max(0, min(video.percent, 99)),
        "created_at": int(video.accepted_at.timestamp()),
        "completed_at": _seconds(video.ended_at) if ended else None,
        "expires_at": _seconds(video.expires_at),
        "prompt": video.prompt,
        "seconds": str(video.seconds),
        "size": video.size,
        "quality": "standard",
        "remixed_from_video_id": None,
        "error": _error(video) if status is JobState.FAILED else None,
        "url": video.url,
        "clipmeter": made,
    }


def list_json(videos: Sequence[Video], *, has_more: bool) -> dict[str, object]:
    """A page of `GET /v1/videos`, in the order given."""
    return {
        "object": "list",
        "data": [video_json(video) for video in videos],
        "first_id": videos[0].id if videos else None,
        "last_id": videos[-1].id if videos else None,
        "has_more": has_more,
    }


def deleted_json(video_id: str) -> dict[str, object]:
    """The answer to `DELETE /v1/videos/{id}`."""
    return {"id": video_id, "object": "video.deleted", "deleted": True}


def poll_after_ms(model: str, age_seconds: float, poll_seconds: float) -> int:
    """When a caller should ask again for an unfinished clip, in milliseconds.

    `poll_seconds` is the follower's own pace: nobody learns more by asking more often. The fast
    models take 30 to 60 seconds by the vendor's page and the others twice that, so they are asked
    for half as often; a clip that is older than any on record is in no hurry. The OpenAI SDK keeps
    to the first answer it gets, which is therefore a short one.
    """
    paces = 1 if "-fast" in model else 2
    if age_seconds > LONGEST_SEEN_SECONDS:
        paces = 3
    return round(poll_seconds * paces * 1000)


# What the caller can do, by reason. The vendor's words about its dealings with us stay away
# (decision 21); its words about the request come first, because clients look for PUBLIC_ERROR_.
_ADVICE: Final[dict[Reason, str]] = {
    Reason.POLICY_AUDIO: "The vendor filtered the sound of this clip. Send the request again, "
    "or ask for less speech; chance plays a part.",
    Reason.POLICY_PEOPLE: "The vendor renders no well-known people. Change the prompt or image.",
    Reason.POLICY_OTHER: "The vendor's content policy refused this clip. Change the prompt or "
    "image.",
    Reason.BAD_REQUEST: "The vendor did not accept this request. Change it before sending again.",
    Reason.VENDOR_CAPACITY: "The vendor had no capacity left. Send the request again later.",
    Reason.VENDOR_ERROR: "The vendor could not render this clip. Send the request again.",
    Reason.VENDOR_ACCOUNT: "The vendor refused this proxy's account. Tell the proxy's operator.",
    Reason.UNREACHABLE: "No gateway of the vendor could be reached. Send the request again.",
    Reason.NO_CLIP: "The vendor's answer held no clip. Send the request again.",
    Reason.LOST: "The vendor never told what became of this clip, and it was given up.",
}
_QUOTED: Final = frozenset(
    {
        Reason.POLICY_AUDIO,
        Reason.POLICY_PEOPLE,
        Reason.POLICY_OTHER,
        Reason.BAD_REQUEST,
        Reason.VENDOR_CAPACITY,
        Reason.VENDOR_ERROR,
    }
)


def _error(video: Video) -> dict[str, object]:
    reason = video.reason or Reason.VENDOR_ERROR
    if video.state is State.WRITTEN_OFF:
        reason = Reason.LOST
    words = " ".join(video.words.split())[:_WORDS_CHARS_MAX].rstrip(" .") if video.words else ""
    quoted = f"{words}. " if words and reason in _QUOTED else ""
    return {"code": reason.value, "message": f"{quoted}{_ADVICE[reason]} It is not charged."}


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
