"""`GET /v1/models`: what the caller's team may ask for today, and what a clip of it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from proxy import errors
from proxy.core.caller import Caller
from proxy.core.catalog import Model
from proxy.core.pricing import Price, format_usd
from proxy.flows.house import House
from proxy.web.callers import Tenant, house_of
from proxy.web.problems import PROBLEM

OWNER: Final = "apiyi"
"""Who serves the models; OpenAI's shape wants a name."""

router = APIRouter(tags=["models"], responses={"default": PROBLEM})


class ModelInfo(BaseModel):
    """OpenAI's model object, and what a clip is: `seconds` long, `size` as WIDTHxHEIGHT pixels.

    `usd_per_clip` is today's price as a decimal string. `alias_of` names the model that is really
    rendered. When a model was published is not known, so `created` is 0.
    """

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = OWNER
    usd_per_clip: str
    size: str
    seconds: int
    images_min: int
    images_max: int
    alias_of: str | None = None


class ModelList(BaseModel):
    """OpenAI's list of models."""

    object: Literal["list"] = "list"
    data: list[ModelInfo]


@router.get("/v1/models")
async def list_models(request: Request, caller: Tenant) -> ModelList:
    """The models that the caller's team may use and that have a price, aliases last."""
    return ModelList(data=list(_offered(house_of(request), caller)))


@router.get("/v1/models/{model}")
async def get_model(request: Request, caller: Tenant, model: str) -> ModelInfo:
    """One model; one that the team may not use is as absent as an unknown one."""
    for info in _offered(house_of(request), caller):
        if info.id == model:
            return info
    message = f"There is no model {errors.echo(model)!r}; GET /v1/models lists them."
    refusal = errors.ProxyError("model_not_found", message, "model")
    refusal.status = 404  # here the model is the resource itself, not a value in a request
    raise refusal


def _offered(house: House, caller: Caller) -> Iterator[ModelInfo]:
    today = house.clock.now().date()
    offered: dict[str, tuple[Model, Price]] = {}
    for model in house.catalog:
        price = house.prices.quote(model.name, today)
        if price is not None and caller.may_use(model.name):
            offered[model.name] = (model, price)
            yield _info(model.name, model, price)
    for alias, name in sorted(house.config.aliases.items()):
        if name in offered:
            yield _info(alias, *offered[name])


def _info(name: str, model: Model, price: Price) -> ModelInfo:
    return ModelInfo(
        id=name,
        usd_per_clip=format_usd(price.micros),
        size=model.size,
        seconds=model.seconds,
        images_min=model.images_min,
        images_max=model.images_max,
        alias_of=None if name == model.name else model.name,
    )
