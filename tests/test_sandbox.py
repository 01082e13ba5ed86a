"""The sandbox through its front door: an OpenAI SDK talks to it as to the vendor."""

from __future__ import annotations

import asyncio

import openai
import pytest

from proxy import sandbox
from proxy.sandbox import Sandbox, stamped


def test_what_the_package_offers_is_there() -> None:
    assert all(hasattr(sandbox, name) for name in sandbox.__all__)


@pytest.mark.parametrize("gateway", sandbox.NAMES)
def test_the_sdk_streams_a_clip_from_each_gateway(gateway: str) -> None:
    async def run() -> str:
        async with (
            Sandbox.start(speed=10_000, renderer=stamped) as vendor,
            openai.AsyncOpenAI(
                api_key=vendor.api_key, base_url=f"{vendor.urls[gateway]}/v1", max_retries=0
            ) as client,
        ):
            stream = await client.chat.completions.create(
                model="veo-3.1-fast",
                messages=[{"role": "user", "content": "A cat"}],
                n=2,
                stream=True,
            )
            said = "".join(
                [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
            )
            assert vendor.bill().clips == 2
            return said

    said = asyncio.run(run())
    assert said.count("✅") == 2


def test_the_sdk_sees_a_refusal_as_the_vendor_sends_it() -> None:
    async def run() -> None:
        async with (
            Sandbox.start(speed=10_000) as vendor,
            openai.AsyncOpenAI(
                api_key=vendor.api_key, base_url=f"{vendor.urls['api']}/v1", max_retries=0
            ) as client,
        ):
            with pytest.raises(openai.PermissionDeniedError) as refusal:
                await client.chat.completions.create(
                    model="veo-3.1", messages=[{"role": "user", "content": "[[policy]]"}]
                )
            assert refusal.value.code == "content_policy_violation"
            assert refusal.value.request_id

    asyncio.run(run())
