"""A multipart form, read while it comes: each of its parts is bounded before it is all there."""

from __future__ import annotations

from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from proxy import errors
from proxy.config import Limits
from proxy.core.headers import value_of
from proxy.core.video_request import Part
from proxy.web.body import take_body
from proxy.web.exchange import Exchange, Receive

BOUNDARY_BYTES_MAX: Final = 70
"""The longest boundary that RFC 2046 knows."""

PART_HEADERS_MAX: Final = 8
PART_HEADER_BYTES_MAX: Final = 4 * 2**10
"""Headers of one part, and bytes of one of them: room for any file name."""

IDLE_BYTES_MAX: Final = 4 * 2**10
"""How much may come on end that is no part, header or data: blanks beside a boundary, say."""

_SLICE_BYTES: Final = 16 * 2**10
_PLAIN: Final = frozenset({b"", b"7bit", b"8bit", b"binary"})


def media_type(exchange: Exchange) -> tuple[str, bytes]:
    """The body's media type in small letters, and the boundary of a form, empty where none is."""
    name, options = parse_options_header(value_of(exchange.headers, b"content-type"))
    return name.decode("latin-1"), options.get(b"boundary", b"")


async def read_form(
    exchange: Exchange, receive: Receive, limits: Limits, boundary: bytes
) -> list[Part]:
    """The parts of the form, in order; refused as soon as one of them is too large.

    Raises `ProxyError`, and `CallerGone` when the caller leaves before its last byte.
    """
    form = _Form(boundary, limits)
    await take_body(exchange, receive, limits, form.feed, form.drop)
    return form.whole()


class _Form:
    """Collects the parts that a parser finds; refuses by raising `ProxyError`."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        if not 0 < len(boundary) <= BOUNDARY_BYTES_MAX:
            raise _unreadable("its content type must name a boundary of 1 to 70 characters")
        self._limits = limits
        self._delimiter = b"\r\n--" + boundary
        self._delimiters = 0
        self._idle_bytes = 0
        self._heard = self._ended = False
        self._parts: list[Part] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._open = Part("", b"")
        self._data: list[bytes] = []
        self._room = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_count=PART_HEADERS_MAX,
            max_header_size=PART_HEADER_BYTES_MAX,
        )

    def feed(self, piece: bytes) -> None:
        """Read on; what stands behind the last boundary is nothing."""
        for at in range(0, len(piece), _SLICE_BYTES):
            if not self._ended:
                self._read(piece[at : at + _SLICE_BYTES])

    def drop(self) -> None:
        """Forget what came."""
        self._parts.clear()
        self._data.clear()

    def whole(self) -> list[Part]:
        """The parts; refused if the form has not come to its end."""
        if not self._ended:
            raise _unreadable("it breaks off before its last boundary")
        return self._parts

    def _read(self, some: bytes) -> None:
        # The parser goes through false boundaries, and through blanks beside true ones, byte by
        # byte: a body of nothing else would keep it busy for seconds.
        self._delimiters += some.count(self._delimiter)
        if self._delimiters > self._limits.form_parts_max + 1:
            raise self._too_many()
        self._heard = False
        try:
            self._parser.write(some)
        except FormParserError:
            raise _unreadable("it is not written as multipart/form-data") from None
        self._idle_bytes = 0 if self._heard else self._idle_bytes + len(some)
        if self._idle_bytes > IDLE_BYTES_MAX and not self._ended:
            raise _unreadable("it has too much between its parts")

    def _on_part_begin(self) -> None:
        self._heard = True
        if len(self._parts) >= self._limits.form_parts_max:
            raise self._too_many()
        self._headers = {}
        self._name = self._value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._heard = True
        self._name += data[start:end].lower()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._heard = True
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._name in self._headers:
            raise _unreadable("a part has one header twice")
        self._headers[self._name] = self._value
        self._name = self._value = b""

    def _on_headers_finished(self) -> None:
        said = self._headers.get(b"content-disposition", b"").decode("latin-1")
        kind, options = parse_options_header(said)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if kind != b"form-data" or not name:
            raise _unreadable("a part has no name")
        if self._headers.get(b"content-transfer-encoding", b"").strip().lower() not in _PLAIN:
            raise _unreadable("a part is encoded for transfer; send its bytes as they are")
        sent_as, filename = self._headers.get(b"content-type"), options.get(b"filename")
        self._open = Part(
            name,
            b"",
            None if sent_as is None else sent_as.decode("latin-1"),
            None if filename is None else filename.decode("utf-8", "replace"),
        )
        self._room = self._bytes_max()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._heard = True
        self._room -= end - start
        if self._room < 0:
            raise self._part_too_large()
        self._data.append(data[start:end])

    def _on_part_end(self) -> None:
        found, data = self._open, b"".join(self._data)
        self._data.clear()
        self._parts.append(Part(found.name, data, found.content_type, found.filename))

    def _on_end(self) -> None:
        self._ended = True

    def _bytes_max(self) -> int:
        """How long the open part may be; an image may also come as text, in base64."""
        limits = self._limits
        if self._open.filename is not None:
            return limits.image_bytes_max
        if self._is_image():
            return limits.image_bytes_max * 4 // 3 + PART_HEADER_BYTES_MAX
        return limits.request_text_bytes_max

    def _is_image(self) -> bool:
        return self._open.name.startswith("input_reference")

    def _part_too_large(self) -> errors.ProxyError:
        if self._is_image():
            words = f"An image may have {self._limits.image_bytes_max:,} bytes. Send a smaller one."
            return errors.ProxyError("invalid_image", words, "input_reference")
        name = errors.echo(self._open.name)
        words = f"The field {name} may have {self._bytes_max():,} bytes. Send less."
        return errors.ProxyError("request_too_large", words, name)

    def _too_many(self) -> errors.ProxyError:
        words = f"The form may have {self._limits.form_parts_max} fields and files. Send fewer."
        return errors.ProxyError("request_too_large", words)


def _unreadable(why: str) -> errors.ProxyError:
    return errors.ProxyError("invalid_request", f"The form cannot be read: {why}. Send it again.")
