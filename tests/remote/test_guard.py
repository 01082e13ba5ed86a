"""Nothing but public addresses is dialled, however a link or a name server puts it.

No test here dials anything: the connector's sockets are refused before they exist, or go to the
loopback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from proxy.remote.guard import (
    LINK_CHARS_MAX,
    AddressRefused,
    Refused,
    Rules,
    allowed,
    connector,
    examine,
)
from tests.remote.fault_server import FaultServer, Line

PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81b::200e",
    "2001:4860:4860::8888",
    "64:ff9b::8.8.8.8",
)
PRIVATE = (
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fc00::1",
    "fd12:3456::1",
)
NEVER = (
    "0.0.0.0",
    "0.1.2.3",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.0.1",
    "169.254.169.254",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::ffff:8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3ffe::1",
    "3fff::1",
    "5f00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
)
NO_ADDRESSES = ("", "localhost", "1.1.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "1.1.1.1 ")

ANYWHERE = Rules()
PRIVATE_TOO = Rules(private=True)


class Names(AbstractResolver):
    """Answers each question with the next list of addresses; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for each in found
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert allowed(address)
    assert allowed(address, private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_may_be_dialled_only_by_the_switch(address: str) -> None:
    assert not allowed(address)
    assert allowed(address, private=True)


@pytest.mark.parametrize("address", [*NEVER, *NO_ADDRESSES])
def test_no_switch_opens_an_address_that_is_nobodys_clip_host(address: str) -> None:
    assert not allowed(address)
    assert not allowed(address, private=True)


@given(st.ip_addresses())
def test_what_the_standard_library_does_not_call_global_is_never_allowed(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if allowed(str(address)):
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://cdn.example/a.mp4", "https://cdn.example/a.mp4"),
        ("HTTPS://CDN.Example/A.mp4", "https://cdn.example/A.mp4"),
        ("https://cdn.example:443/a", "https://cdn.example/a"),
        ("https://cdn.example", "https://cdn.example/"),
        ("https://cdn.example?x=1", "https://cdn.example/?x=1"),
        ("https://cdn.example/a#t=1", "https://cdn.example/a"),
        ("https://1.1.1.1/a", "https://1.1.1.1/a"),
        ("https://[2606:4700:4700::1111]/a", "https://[2606:4700:4700::1111]/a"),
        ("https://my_bucket.cdn.example/a", "https://my_bucket.cdn.example/a"),
        ("https://cdn.example/视频.mp4", "https://cdn.example/%E8%A7%86%E9%A2%91.mp4"),
        (
            "https://cdn.example/%7Ea%2Fb?C=a%2Fb%2B+c&s=%41%3D%3d",
            "https://cdn.example/%7Ea%2Fb?C=a%2Fb%2B+c&s=%41%3D%3d",
        ),
    ],
)
def test_a_link_is_asked_for_as_it_was_signed(link: str, expected: str) -> None:
    examined = examine(link, ANYWHERE)
    assert isinstance(examined, URL)
    assert str(examined) == expected


@pytest.mark.parametrize(
    ("link", "refused"),
    [
        ("", Refused.MALFORMED),
        ("cdn.example/a.mp4", Refused.MALFORMED),
        ("//cdn.example/a.mp4", Refused.MALFORMED),
        ("https:/cdn.example/a", Refused.MALFORMED),
        ("https:cdn.example", Refused.MALFORMED),
        ("https://cdn.example/a b", Refused.MALFORMED),
        ("https://cdn.example/a\r\nhost: b", Refused.MALFORMED),
        ("https://cdn.example\\@127.0.0.1/", Refused.MALFORMED),
        ("https://cdn.example\t/", Refused.MALFORMED),
        (" https://cdn.example/", Refused.MALFORMED),
        ("https://cdn.example/\ud800", Refused.MALFORMED),
        ("https://cdn.example/" + "a" * LINK_CHARS_MAX, Refused.MALFORMED),
        ("https://cdn.example:/a", Refused.MALFORMED),
        ("https://cdn.example:4:4/a", Refused.MALFORMED),
        ("https://::1/a", Refused.MALFORMED),
        ("https:///a", Refused.MALFORMED),
        ("http://cdn.example/a", Refused.SCHEME),
        ("ftp://cdn.example/a", Refused.SCHEME),
        ("file:///etc/passwd", Refused.SCHEME),
        ("gopher://cdn.example/", Refused.SCHEME),
        ("https://cdn.example@127.0.0.1/", Refused.USERINFO),
        ("https://user:word@cdn.example/", Refused.USERINFO),
        ("https://cdn.example:22/a", Refused.PORT),
        ("https://cdn.example:80/a", Refused.PORT),
        ("https://cdn.example:0/a", Refused.PORT),
        ("https://cdn.example:99999/a", Refused.PORT),
        ("https://localhost/a", Refused.HOST),
        ("https://metadata/a", Refused.HOST),
        ("https://cdn.example./a", Refused.HOST),
        ("https://.cdn.example/a", Refused.HOST),
        ("https://cdn..example/a", Refused.HOST),
        ("https://cdn%2eexample/a", Refused.HOST),
        ("https://\uff45xample.com/a", Refused.HOST),
        ("https://ex\u0430mple.com/a", Refused.HOST),
        ("https://127。0。0。1/a", Refused.HOST),
        ("https://2130706433/a", Refused.HOST),
        ("https://0x7f000001/a", Refused.HOST),
        ("https://0x7f.0x0.0x0.0x1/a", Refused.HOST),
        ("https://0177.0.0.1/a", Refused.HOST),
        ("https://127.1/a", Refused.HOST),
        ("https://cdn.example.127/a", Refused.HOST),
        ("https://[127.0.0.1]/a", Refused.HOST),
        ("https://[cdn.example]/a", Refused.HOST),
        ("https://127.0.0.1/a", Refused.ADDRESS),
        ("https://169.254.169.254/latest/meta-data/", Refused.ADDRESS),
        ("https://0.0.0.0/a", Refused.ADDRESS),
        ("https://[::1]/a", Refused.ADDRESS),
        ("https://[::ffff:7f00:1]/a", Refused.ADDRESS),
        ("https://[::ffff:8.8.8.8]/a", Refused.ADDRESS),
        ("https://[fe80::1%25eth0]/a", Refused.ADDRESS),
    ],
)
def test_a_link_that_leads_elsewhere_is_refused_unresolved(link: str, refused: Refused) -> None:
    assert examine(link, ANYWHERE) is refused


@pytest.mark.parametrize(
    ("link", "refused"),
    [
        ("http://127.0.0.1:8081/a", None),
        ("http://localhost:8081/a", None),
        ("https://[::1]:8081/a", None),
        ("http://minio/a", None),
        ("http://10.0.0.1/a", None),
        ("http://169.254.169.254/", Refused.ADDRESS),
        ("http://100.100.100.200/", Refused.ADDRESS),
        ("http://[fd00:ec2::254]/", Refused.ADDRESS),
        ("http://2130706433/", Refused.HOST),
        ("http://a@127.0.0.1/", Refused.USERINFO),
        ("ftp://127.0.0.1/", Refused.SCHEME),
    ],
)
def test_the_private_switch_opens_ones_own_network_alone(
    link: str, refused: Refused | None
) -> None:
    examined = examine(link, PRIVATE_TOO)
    assert (examined if isinstance(examined, Refused) else None) is refused


@pytest.mark.parametrize(
    ("hosts", "link", "passes"),
    [
        (("cdn.example",), "https://cdn.example/", True),
        (("CDN.example",), "https://cdn.EXAMPLE/", True),
        (("cdn.example",), "https://a.cdn.example/", False),
        (("*.cdn.example",), "https://a.cdn.example/", True),
        (("*.cdn.example",), "https://a.b.cdn.example/", True),
        (("*.cdn.example",), "https://cdn.example/", False),
        (("*.cdn.example",), "https://evilcdn.example/", False),
        (("*.cdn.example",), "https://cdn.example.evil.example/", False),
        (("a.example", "b.example"), "https://b.example/", True),
        (("cdn.example",), "https://1.1.1.1/", False),
        ((), "https://cdn.example/", False),
    ],
)
def test_only_hosts_that_the_operator_named_are_asked(
    hosts: tuple[str, ...], link: str, passes: bool
) -> None:
    examined = examine(link, Rules(hosts))
    assert isinstance(examined, URL) if passes else examined is Refused.HOST


@given(st.text(max_size=60), st.booleans())
def test_any_text_is_a_link_or_refused(text: str, private: bool) -> None:
    for link in (text, f"https://{text}", f"https://cdn.example/{text}"):
        examined = examine(link, Rules(private=private))
        assert isinstance(examined, URL | Refused)
        if isinstance(examined, URL):
            assert not {" ", "\r", "\n"} & set(str(examined))
            assert examined.user is None


async def dial(names: AbstractResolver, url: str, rules: Rules = ANYWHERE) -> object:
    """What becomes of a GET by a client that dials through the guard."""
    async with (
        aiohttp.ClientSession(connector=connector(rules, names)) as session,
        asyncio.timeout(5),
    ):
        try:
            async with session.get(url) as response:
                return response.status
        except aiohttp.ClientConnectorError as error:
            return error.os_error


@pytest.mark.parametrize("inward", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1"])
async def test_a_name_with_one_inward_address_is_refused_whole(inward: str) -> None:
    for addresses in ([inward], ["1.1.1.1", inward], [inward, "1.1.1.1"]):
        refused = await dial(Names(addresses), "https://cdn.example/")
        assert isinstance(refused, AddressRefused)


async def test_a_name_without_an_address_is_no_address() -> None:
    refused = await dial(Names([]), "https://cdn.example/")
    assert isinstance(refused, OSError)
    assert not isinstance(refused, AddressRefused)


async def test_a_literal_address_that_nobody_resolved_is_refused_at_its_socket() -> None:
    names = Names(["1.1.1.1"])
    for url in ("https://127.0.0.1/", "https://[::1]/", "http://169.254.169.254/"):
        assert isinstance(await dial(names, url), AddressRefused)
    assert names.asked == []


async def answer_and_close(line: Line) -> None:
    await line.request()
    await line.send(b"HTTP/1.1 204 No\r\n\r\n")
    await line.close()


async def test_a_name_that_turns_inward_is_refused_when_it_is_asked_again() -> None:
    names = Names(["127.0.0.1"], ["127.0.0.1", "169.254.169.254"])
    async with (
        FaultServer(answer_and_close) as server,
        aiohttp.ClientSession(connector=connector(PRIVATE_TOO, names)) as session,
    ):
        url = f"http://cdn.example:{server.port}/"
        async with session.get(url) as response:
            assert response.status == 204
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await session.get(url)
        assert isinstance(refused.value.os_error, AddressRefused)
        assert server.connections == 1


async def test_a_connection_goes_to_the_one_answer_that_was_judged() -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with FaultServer(answer_and_close) as server:
        assert await dial(names, f"http://cdn.example:{server.port}/", PRIVATE_TOO) == 204
        assert names.asked == ["cdn.example"]
        assert f"Host: cdn.example:{server.port}".encode() in server.requests[0]


async def test_tls_asks_for_the_name_and_not_for_the_address() -> None:
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def hear(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int:
        asked.append(name)
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context.sni_callback = hear
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await dial(Names(["127.0.0.1"]), f"https://cdn.example:{port}/", PRIVATE_TOO)
    assert asked == ["cdn.example"]
