"""Which addresses may be dialled for a clip: public ones only, judged where the socket is made.

A clip's link comes from outside, so it may point anywhere (R86). It is judged three times: as
written, by the addresses its name has when it is dialled, and by the very address of each socket.
A name is resolved once for each connection, and that connection goes to what was judged, so an
answer of the name service that changes in between changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final
from urllib.parse import quote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

NAMES_AT_ONCE_MAX: Final = 16
"""As many names of clip hosts are looked for at once."""

LINK_CHARS_MAX: Final = 8 * 2**10
"""The longest link that is looked at; signed ones have about a thousand characters."""

# IANA's special-purpose registries, and addresses that a cloud keeps for its own machines.
_SPECIAL_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; 100.100.100.200 tells a cloud's secrets
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's agent, inside every machine of it
        "169.254.0.0/16",  # link-local; 169.254.169.254 tells a cloud's secrets
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Within the one block of global unicast: tunnels (Teredo, 6to4, the 6bone), and documentation.
_SPECIAL_V6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

_PRIVATE_V4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)
_PRIVATE_V6: Final = tuple(ipaddress.IPv6Network(network) for network in ("::1/128", "fc00::/7"))
# Clouds answer here with credentials; no switch opens these.
_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "fd00:ec2::254", "fd00:42::42", "fd20:ce::254"),
    )
)

_LINK: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)(?:#.*)?", re.IGNORECASE
)
_AUTHORITY: Final = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?")
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
# Other parsers read a last label like this as an address: 127.1, 0x7f.1, 2130706433.
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_ASCII: Final = "".join(map(chr, range(0x21, 0x7F)))


class Refused(StrEnum):
    """What is wrong with a link; the word stands in logs and metrics."""

    MALFORMED = "malformed"
    SCHEME = "scheme"
    USERINFO = "userinfo"
    PORT = "port"
    HOST = "host"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Rules:
    """Where clips may be fetched: host names, `*.domain` or `*`; `private` opens one's own network.

    With `private` plain http, any port and private addresses are allowed too; link-local addresses
    and those where clouds keep credentials never are.
    """

    hosts: tuple[str, ...] = ("*",)
    private: bool = False


class AddressRefused(OSError):
    """A name has an address that must not be dialled; nothing was sent."""


def allowed(address: str, *, private: bool = False) -> bool:
    """Whether `address`, an IP address as text, may be dialled; `private` as in `Rules`.

    Text that is no plain address is refused, and so is one with a scope, an IPv4-mapped one and
    every other way of writing an IPv4 address as IPv6, but for NAT64's of an allowed address.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip in _METADATA:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        if private and any(ip in network for network in _PRIVATE_V4):
            return True
        return not any(ip in network for network in _SPECIAL_V4)
    if ip.scope_id is not None:
        return False
    if ip in _NAT64:
        return allowed(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    if private and any(ip in network for network in _PRIVATE_V6):
        return True
    return ip in _GLOBAL_V6 and not any(ip in network for network in _SPECIAL_V6)


def examine(link: str, rules: Rules) -> URL | Refused:
    """The address to ask for, its path and query as they were written, or what is wrong with it.

    What a name resolves to is not known here; `connector` judges that.
    """
    parts = _LINK.fullmatch(link) if len(link) <= LINK_CHARS_MAX else None
    if parts is None or _UNPRINTABLE.search(link):
        return Refused.MALFORMED
    scheme = parts["scheme"].lower()
    if scheme != "https" and not (rules.private and scheme == "http"):
        return Refused.SCHEME
    if "@" in parts["authority"]:
        return Refused.USERINFO
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        return Refused.MALFORMED
    port = authority["port"]
    if port is not None and not (0 < int(port) < 2**16 and (rules.private or int(port) == 443)):
        return Refused.PORT
    refused = _refuse_host(authority, rules)
    if refused is not None:
        return refused
    try:
        rest = quote(parts["rest"], safe=_ASCII)
    except UnicodeEncodeError:
        return Refused.MALFORMED
    slash = "" if rest.startswith("/") else "/"
    return URL(f"{scheme}://{parts['authority'].lower()}{slash}{rest}", encoded=True)


def connector(rules: Rules, resolver: AbstractResolver | None = None) -> aiohttp.TCPConnector:
    """Connections for an HTTP client that go nowhere but where `rules` allow.

    A name with any address that is not allowed is refused as a whole. Every request gets a
    connection of its own. `resolver` stands in for the system's. Needs a running event loop.
    """
    return aiohttp.TCPConnector(
        limit=0,
        force_close=True,
        use_dns_cache=False,
        resolver=_Resolver(resolver or _Names(), rules),
        socket_factory=lambda address: _socket(address, rules),
    )


def _refuse_host(authority: re.Match[str], rules: Rules) -> Refused | None:
    literal = authority["v6"]
    host = (literal if literal is not None else authority["host"]).lower()
    if literal is not None or _NUMERIC.fullmatch(host):
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return Refused.HOST
        if (ip.version == 6) != (literal is not None):
            return Refused.HOST
        if not allowed(host, private=rules.private):
            return Refused.ADDRESS
    elif not _NAME.fullmatch(host) or ("." not in host and not rules.private):
        return Refused.HOST
    return None if any(_matches(host, pattern.lower()) for pattern in rules.hosts) else Refused.HOST


def _matches(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and host != pattern[1:]
    return pattern in {"*", host}


class _Names(AbstractResolver):
    """Asks the system, in threads of its own.

    A name that nobody answers for holds one up for half a minute. The event loop's own threads have
    the gateways' names to find, for paid requests.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(NAMES_AT_ONCE_MAX, thread_name_prefix="clip-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        ask = partial(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Resolver(AbstractResolver):
    """Asks another resolver, and refuses a name unless all of its addresses are allowed."""

    def __init__(self, inner: AbstractResolver, rules: Rules) -> None:
        self._inner = inner
        self._rules = rules

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not found:
            raise OSError("the name has no address")
        if not all(allowed(each["host"], private=self._rules.private) for each in found):
            raise AddressRefused("the name has an address that must not be dialled")
        return found

    async def close(self) -> None:
        await self._inner.close()


def _socket(address: tuple[int, int, int, str, tuple[object, ...]], rules: Rules) -> socket.socket:
    """A socket for `address`; the last gate, which literal addresses in links pass as well."""
    family, kind, protocol, _, target = address
    if not allowed(str(target[0]), private=rules.private):
        raise AddressRefused("the address must not be dialled")
    return socket.socket(family, kind, protocol)
