"""`/v1/videos` at a gateway: create, status and content, in every shape on record.

Wire facts, sections 4.3 to 4.6, name the shapes; the defaults are those captured or documented.
"""

from __future__ import annotations

from typing import Any

from proxy.sandbox.errors import ERRORS
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.http import Reply
from proxy.sandbox.jobs import Job, Kind, Progress
from proxy.sandbox.links import film
from proxy.sandbox.orders import Refused, read_video

_NEWAPI_STATUS = {
    "queued": "QUEUED",
    "processing": "IN_PROGRESS",
    "completed": "SUCCESS",
    "failed": "FAILURE",
}


async def create(exchange: Exchange) -> None:
    """Take a job and tell its id."""
    order = exchange.order(read_video)
    job = await exchange.accept(Kind.VIDEO, order)
    if job is not None:
        await exchange.reply_json(_created(job, exchange.faults.word("created", "shape", "a")))


async def status(exchange: Exchange, job_id: str) -> None:
    """Tell how far a job is."""
    job = _known(exchange, job_id)
    shape = (exchange.faults + job.faults).word("polled", "shape", "captured")
    await exchange.reply_json(_polled(job, shape))


async def content(exchange: Exchange, job_id: str) -> None:
    """Give the clip of a finished job, or where it is."""
    job = _known(exchange, job_id)
    faults = exchange.faults + job.faults
    refusals = faults.whole("not-ready", "times", 0)
    if not job.clips or job.completed_at is None or job.content_refusals < refusals:
        if job.completed_at is not None:
            job.content_refusals += 1
        raise Refused(ERRORS["not-ready"].reply(job.order.product.name, exchange.request_id))
    clip = job.clips[0]
    form = faults.word("content", "form", "json")
    if form == "bytes":
        await film(exchange, job, clip)
    elif form == "redirect":
        await exchange.reply(Reply(302, (("Location", clip.url),), b""))
    elif form == "video-url":
        await exchange.reply_json({"video_url": clip.url})
    else:
        await exchange.reply_json(
            {
                **_created(job, "a"),
                "status": "completed",
                "prompt": job.order.prompt,
                "url": clip.url,
                "duration": 8,
                "resolution": _size(job),
            }
        )


def _known(exchange: Exchange, job_id: str) -> Job:
    job = exchange.premises.vendor.find(job_id, exchange.gateway)
    if job is None:
        raise Refused(ERRORS["video-not-found"].reply("", exchange.request_id))
    return job


def _size(job: Job) -> str:
    return f"{job.order.product.width}x{job.order.product.height}"


def _state(job: Job) -> str:
    if job.completed_at is not None:
        return "completed" if job.clips else "failed"
    begun = any(isinstance(event, Progress) for event in job.events)
    return "processing" if begun else "queued"


def _created(job: Job, shape: str) -> dict[str, Any]:
    """The answer to a create request, in the shape of this letter (wire facts, section 4.3)."""
    model, at = job.order.product.name, job.created_at
    if shape == "b":
        times = {"created_at": at, "expires_at": at + 86_400}
        return {"id": job.id, "object": "task", "model": model, "status": "submitted", **times}
    if shape == "c":
        return {
            "id": job.id,
            "status": "submitted",
            "progress": 0,
            "prompt": job.order.prompt,
            "model": model,
            "size": _size(job),
            "seconds": "8",
            "created_at": at,
            "url": None,
            "completed_at": None,
        }
    if shape in {"d", "e"}:
        body = {"id": job.id, "task_id": job.id, "object": "video", "model": model}
        # Shape d says when the job was completed while it is queued; so it was captured.
        early = {"completed_at": at + 90} if shape == "d" else {}
        return {**body, "status": "queued", "progress": 0, "created_at": at, **early}
    return {"id": job.id, "object": "video", "created": at, "status": "queued", "model": model}


def _polled(job: Job, shape: str) -> dict[str, Any]:
    """The status of a job, in the named envelope (wire facts, section 4.4)."""
    state = _state(job)
    if shape == "newapi":
        return _newapi(job, state)
    if shape == "task" or (shape == "captured" and state == "failed"):
        return _task(job, state)
    if shape == "documented":
        body = {**_created(job, "a"), "status": state}
        if state == "failed":
            return {**body, "progress": 0, "error": job.fail_code}
        return {**body, "prompt": job.order.prompt} if state == "completed" else body
    return _captured(job, state)


def _captured(job: Job, state: str) -> dict[str, Any]:
    """As captured: the gateway's name for the model, and the wrong number of seconds."""
    body: dict[str, Any] = {
        "created_at": job.created_at,
        "id": job.id,
        "model": "sora2_video_generation",
        "object": "video",
        "progress": 100 if state == "completed" else int(job.percent),
        "seconds": "4",
        "size": _size(job),
        "status": state,
    }
    if state == "completed":
        url = job.clips[0].url
        links = {"result_url": url, "url": url, "video_url": url}
        return {"completed_at": job.completed_at, **body, **links}
    return body


def _task(job: Job, state: str) -> dict[str, Any]:
    """The task envelope: no id, model or time at the top, the engine's object nested in `data`."""
    model = job.order.product.name
    inner: dict[str, Any] = {
        "id": job.id,
        "object": "video",
        "model": model,
        "size": _size(job),
        "status": state,
    }
    body: dict[str, Any] = {
        "task_id": job.id,
        "object": "task",
        "task_type": "sora2_video_generation",
        "model_name": model,
        "platform": "openai",
        "status": state,
        "progress": f"{int(job.percent) if job.completed_at is None else 100}%",
        "fail_reason": job.fail_code if state == "failed" else "",
    }
    if state == "failed":
        body["error"] = {"message": job.fail_code, "type": "task_failed"}
        inner["error"] = {"code": "", "message": job.fail_code}
    if state == "completed":
        inner["url"] = job.clips[0].url
    return {**body, "data": inner}


def _newapi(job: Job, state: str) -> dict[str, Any]:
    task = _task(job, state)
    url = job.clips[0].url if state == "completed" else ""
    inner = {
        "task_id": job.id,
        "status": _NEWAPI_STATUS[state],
        "fail_reason": task["fail_reason"],
        "result_url": url,
        "progress": task["progress"],
        "data": task["data"],
    }
    return {"code": "success", "message": "", "data": inner}
