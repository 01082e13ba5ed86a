"""What one value of config.yaml may be: amounts, sizes, addresses, secrets, names.

Each type here is a pydantic annotation. A refused value raises `ValueError` with what is allowed,
never with the value.
"""

from __future__ import annotations

import ipaddress
import re
from decimal import Decimal
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints

from proxy.core.pricing import parse_usd

_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES: Final = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|TiB)?")
_HOST: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*")
_HOST_PATTERN: Final = r"\*|(?:\*\.)?[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
_RATIO: Final = re.compile(r"(?:0|1)(?:\.[0-9]{1,6})?")
_VAULT_SCHEMES: Final = ("file", "s3", "gs", "az")
_UNCHOSEN: Final = (
    "changeme",
    "replaceme",
    "yourkey",
    "yoursecret",
    "yourapikey",
    "apikeyhere",
    "examplekey",
    "examplesecret",
    "defaultsecret",
    "password",
    "xxxxxx",
)
_UNCHOSEN_WHOLE: Final = frozenset({"secret", "default", "example", "test", "key", "sk"})
_SECRET_CHARS_MIN: Final = 16


def is_loopback(host: str) -> bool:
    """Whether `host` can only be this machine, by its name or literal address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`values`, of which there must be one or more."""
    if not values:
        raise ValueError("must have one entry or more")
    return values


def _no_boolean(value: Any) -> Any:
    if value is True or value is False:
        raise ValueError("must be a number")
    return value


def _read_bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return _no_boolean(value)
    match = _BYTES.fullmatch(value.strip())
    if match is None:
        raise ValueError("must be a size such as 16MiB (B, KiB, MiB, GiB or TiB)")
    return int(match.group(1)) * _UNITS[match.group(2) or "B"]


def _read_usd(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    try:
        parse_usd(text)
    except ValueError:
        raise ValueError(
            'must be dollars as a quoted string such as "0.15", with at most six decimals'
        ) from None
    return text


def _read_ratio(value: Any) -> Decimal:
    if isinstance(value, Decimal):
        value = str(value)
    if not isinstance(value, str) or not _RATIO.fullmatch(value) or Decimal(value) > 1:
        raise ValueError('must be a quoted share from "0.00" to "1.00" (0.10 is ten per cent)')
    return Decimal(value)


def _read_rotate_on(value: Any) -> Literal["5xx"] | int:
    if value == "5xx":
        return "5xx"
    word = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"5[0-9][0-9]", word):
        raise ValueError("must be 5xx, or status codes from 500 to 599")
    return int(word)


def _split(value: str, schemes: tuple[str, ...]) -> SplitResult:
    allowed = " or ".join(f"{scheme}://" for scheme in schemes)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be an address without blanks or special characters")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(f"must be an address with {allowed} and a valid host and port") from None
    if parts.scheme not in schemes or port == 0:
        raise ValueError(f"must be an address with {allowed} and a valid host and port")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password")
    if parts.query or parts.fragment or value.endswith(("?", "#")):
        raise ValueError("must not hold a query or fragment")
    return parts


def _read_origin(value: str) -> str:
    parts = _split(value, ("https", "http"))
    if parts.path not in ("", "/"):
        raise ValueError("must be a bare origin such as https://api.apiyi.com, without /v1")
    return _origin(parts)


def _read_public_url(value: str) -> str:
    parts = _split(value, ("https", "http"))
    return _origin(parts) + parts.path.rstrip("/")


def _origin(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    if ":" in host and _is_ipv6(host):
        host = f"[{host}]"
    elif not _HOST.fullmatch(host):
        raise ValueError("must have a valid host")
    where = host if parts.port is None else f"{host}:{parts.port}"
    if parts.netloc.lower() != where:
        raise ValueError("must have a valid host and port")
    return f"{parts.scheme}://{where}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _read_vault_url(value: str) -> str:
    _split(value, _VAULT_SCHEMES)
    return value


def _check_postgres(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.startswith("postgresql://") or not text.isprintable():
        raise ValueError("must be postgresql://…, or null for SQLite under data_dir")
    return value


def _check_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.strip():
        raise ValueError("must not be empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without blanks")
    letters = re.sub(r"[^a-z0-9]", "", text.lower())
    if letters in _UNCHOSEN_WHOLE or any(word in letters for word in _UNCHOSEN):
        raise ValueError("looks like a sample, not like a secret of your own")
    return value


def _check_own_secret(value: SecretStr) -> SecretStr:
    _check_secret(value)
    text = value.get_secret_value()
    if len(text) < _SECRET_CHARS_MIN or len(set(text)) < _SECRET_CHARS_MIN // 2:
        raise ValueError(f"must be {_SECRET_CHARS_MIN} or more characters made at random")
    return value


def _matching(pattern: str, allowed: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)


Count = Annotated[int, BeforeValidator(_no_boolean), Field(ge=1)]
Port = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0, le=65535)]
Seconds = Annotated[float, BeforeValidator(_no_boolean), Field(gt=0, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_no_boolean), Field(ge=0, le=1)]
Bytes = Annotated[int, BeforeValidator(_read_bytes), Field(ge=1)]
Usd = Annotated[str, BeforeValidator(_read_usd)]
Ratio = Annotated[Decimal, BeforeValidator(_read_ratio)]
RotateOn = Annotated[Literal["5xx"] | int, BeforeValidator(_read_rotate_on)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
GatewayName = Annotated[str, _matching(r"[a-z0-9_-]{1,16}", "1 to 16 of a-z, 0-9, _ and -")]
GatewayUrl = Annotated[str, AfterValidator(_read_origin)]
PublicUrl = Annotated[str, AfterValidator(_read_public_url)]
VaultUrl = Annotated[str, AfterValidator(_read_vault_url)]
HostPattern = Annotated[str, _matching(_HOST_PATTERN, "a host name, *.example.com or *")]
ModelName = Annotated[
    str,
    _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "1 to 64 letters, digits, dots, - and _"),
]
Size = Annotated[str, _matching(r"[1-9][0-9]{1,4}x[1-9][0-9]{1,4}", "pixels such as 720x1280")]
PostgresUrl = Annotated[SecretStr, AfterValidator(_check_postgres)]
VendorSecret = Annotated[SecretStr, AfterValidator(_check_secret)]
OwnSecret = Annotated[SecretStr, AfterValidator(_check_own_secret)]
