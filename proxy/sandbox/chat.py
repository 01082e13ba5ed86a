"""`POST /v1/chat/completions` at a gateway."""

from __future__ import annotations

from proxy.sandbox.errors import dumps
from proxy.sandbox.exchange import JSON, Exchange
from proxy.sandbox.frames import Framing
from proxy.sandbox.http import Reply
from proxy.sandbox.jobs import Job, Kind
from proxy.sandbox.orders import read_chat
from proxy.sandbox.script import Script
from proxy.sandbox.words import Style, error_body


async def complete(exchange: Exchange) -> None:
    """Answer a chat request: streamed as the job goes on, or whole at its end."""
    order = exchange.order(read_chat)
    job = await exchange.accept(Kind.CHAT, order)
    if job is None:
        return
    script = Script(order, Style.of(exchange.faults), job.id, job.created_at)
    if order.stream and "json" not in exchange.faults:
        await _stream(exchange, job, script)
    else:
        await _whole(exchange, job, script)


async def _stream(exchange: Exchange, job: Job, script: Script) -> None:
    framing = Framing.of(exchange.faults)
    wire = exchange.wire
    headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")]
    await wire.open(200, [*headers, *exchange.ids()])
    for payload in script.opening():
        await wire.send(framing.frame(payload))
    async for event in job.watch():
        for payload in script.on(event):
            await wire.send(framing.frame(payload))
    for payload in script.closing():
        await wire.send(framing.frame(payload))
    await wire.finish()


async def _whole(exchange: Exchange, job: Job, script: Script) -> None:
    events = [event async for event in job.watch()]
    headers = (("Content-Type", JSON),)
    if script.style.ending == "error-frame":
        body = dumps(error_body(job.fail_code))
        await exchange.reply(Reply(500, headers, body.encode()))
    else:
        await exchange.reply(Reply(200, headers, script.unary(events).encode()))
