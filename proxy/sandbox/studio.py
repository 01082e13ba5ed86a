"""Films the clips: renders each on first request, off the event loop, and keeps the latest."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from proxy.sandbox.card import SECONDS, Card
from proxy.sandbox.jobs import Clip, Job

Renderer = Callable[[Card], bytes]
"""Makes the bytes of an MP4 from a card; it must give the same bytes for the same card."""

_KEPT_MAX: Final = 64


class Studio:
    """Clips as bytes; the same clip is never rendered twice at once."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-render")
        self._films: OrderedDict[str, asyncio.Future[bytes]] = OrderedDict()

    async def film(self, job: Job, clip: Clip) -> bytes:
        """The MP4 of a clip."""
        film = self._films.get(clip.id)
        if film is None:
            loop = asyncio.get_running_loop()
            film = loop.run_in_executor(self._threads, self._renderer, card_of(job, clip))
            self._films[clip.id] = film
            if len(self._films) > _KEPT_MAX:
                self._films.popitem(last=False)
        self._films.move_to_end(clip.id)
        return await asyncio.shield(film)

    def close(self) -> None:
        """Stop rendering; a clip in the making is finished first."""
        self._threads.shutdown(cancel_futures=True)


def card_of(job: Job, clip: Clip) -> Card:
    """What the clip shows."""
    order = job.order
    bought = order.product
    notes = [f"{SECONDS} s", f"{bought.width}x{bought.height}"]
    if order.images:
        notes.append(f"{order.images} image" + "s" * (order.images > 1))
    if order.clips > 1:
        notes.append(f"clip {clip.number} of {order.clips}")
    return Card(
        clip_id=clip.id,
        model=bought.name,
        prompt=order.prompt,
        notes="   ".join(notes),
        width=bought.width,
        height=bought.height,
    )
