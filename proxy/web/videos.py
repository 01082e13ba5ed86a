"""`/v1/videos`: an order read from its form or its JSON, and answers about a team's own clips."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from proxy import errors
from proxy.core.images import ImageLimits
from proxy.core.request import BodyLimits, Malformed
from proxy.core.video_request import Rules, VideoRequest, read_video_form, read_video_json
from proxy.flows import videos
from proxy.flows.house import House
from proxy.flows.submit import submit
from proxy.flows.videos import Page
from proxy.web.body import has_left, read_body
from proxy.web.exchange import Exchange, Receive, Send, link_base, send_json, send_reply
from proxy.web.upload import media_type, read_form

LISTED_BY_DEFAULT: Final = 20

ASIDE_BYTES_MIN: Final = 128 * 2**10
"""More text than this is read in a thread: two images in base64 take a tenth of a second."""

_PARAMETERS_MAX: Final = 50


class Videos:
    """Serves the relay's routes of videos, but for their content."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house
        limits = house.config.limits
        image = ImageLimits(limits.image_bytes_max, limits.image_side_max, limits.image_pixels_max)
        body = BodyLimits(
            limits.request_text_bytes_max, limits.json_values_max, limits.json_depth_max, image
        )
        self._rules = Rules(house.catalog, house.config.aliases, body)

    async def create(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Order a clip."""
        house, caller = self._house, exchange.known_caller
        request = await self._order(exchange, receive)

        async def gone() -> bool:
            return await has_left(receive)

        asking = submit(house, caller, request, exchange.headers, gone, self._base(exchange))
        del request  # its images are not kept while the answer is awaited
        await send_reply(exchange, await asking, send)

    async def retrieve(self, exchange: Exchange, _receive: Receive, send: Send) -> None:
        """Tell how one of the team's clips stands."""
        base = self._base(exchange)
        shown = await videos.retrieve(self._house, exchange.known_caller, exchange.path_id, base)
        await send_json(exchange, *shown, send)

    async def list(self, exchange: Exchange, _receive: Receive, send: Send) -> None:
        """Tell how the team's clips stand, a page at a time."""
        page = read_page(exchange.query, self._house.config.limits.videos_listed_max)
        if isinstance(page, Malformed):
            raise errors.ProxyError(page.code, page.message, page.param)
        base = self._base(exchange)
        shown = await videos.list_page(self._house, exchange.known_caller, page, base)
        await send_json(exchange, *shown, send)

    async def delete(self, exchange: Exchange, _receive: Receive, send: Send) -> None:
        """Forget one of the team's clips."""
        shown = await videos.delete(self._house, exchange.known_caller, exchange.path_id)
        await send_json(exchange, *shown, send)

    async def _order(self, exchange: Exchange, receive: Receive) -> VideoRequest:
        limits, rules = self._house.config.limits, self._rules
        kind, boundary = media_type(exchange)
        if kind == "multipart/form-data":
            parts = await read_form(exchange, receive, limits, boundary)
            text_bytes = sum(len(part.data) for part in parts if part.filename is None)
            reading = partial(read_video_form, parts, rules)
        elif kind == "application/json":
            body = await read_body(exchange, receive, limits)
            text_bytes = len(body)
            reading = partial(read_video_json, body, rules)
        else:
            words = (
                "Send the order as multipart/form-data, as the OpenAI SDK does, or as "
                "application/json, and say so in content-type."
            )
            raise errors.ProxyError("invalid_request", words)
        if text_bytes < ASIDE_BYTES_MIN:
            read = reading()
        else:
            read = await asyncio.get_running_loop().run_in_executor(None, reading)
        if isinstance(read, Malformed):
            raise errors.ProxyError(read.code, read.message, read.param)
        return read

    def _base(self, exchange: Exchange) -> str:
        return link_base(exchange, self._house.config.server)


def read_page(query: bytes, limit_max: int) -> Page | Malformed:
    """Which page a query asks for; parameters that are none of ours change nothing."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), True, max_num_fields=_PARAMETERS_MAX)
    except ValueError:
        words = f"The query may have {_PARAMETERS_MAX} parameters."
        return Malformed("invalid_request", words)
    asked: dict[str, str] = {}
    for name, value in pairs:
        if name in asked and name in {"after", "limit", "order"}:
            return Malformed("invalid_request", f"{name} stands twice; send it once.", name)
        asked[name] = value
    limit = _limit(asked, limit_max)
    if limit is None:
        words = f"limit must be a number from 1 to {limit_max}."
        return Malformed("invalid_request", words, "limit")
    order = asked.get("order", "desc")
    if order not in {"asc", "desc"}:
        return Malformed("invalid_request", "order must be asc or desc.", "order")
    return Page(asked.get("after"), limit, newest_first=order == "desc")


def _limit(asked: Mapping[str, str], limit_max: int) -> int | None:
    text = asked.get("limit")
    if text is None:
        return min(LISTED_BY_DEFAULT, limit_max)
    digits = text.isascii() and text.isdigit()
    limit = int(text) if digits and len(text) < 10 else 0
    return limit if 1 <= limit <= limit_max else None
