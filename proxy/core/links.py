"""Which links in an answer's text announce a clip, and which lines say that one failed.

The vendor speaks in prose (wire facts, section 3.2): a success line with `✅`, a markdown link or
a `<video src>`. The prompt is echoed in a fenced JSON block, and parts of it may be quoted
elsewhere, so a link that stands in the request itself never announces anything.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# Possessive, and no two neighbours that match the same characters: text is matched in linear time.
_URL: Final = r"https?://(?:[^\s()<>\[\]\"'`|，。）】]++|\([^\s()<>]*+\))++"
_MARKDOWN: Final = re.compile(
    rf"\[(?P<label>[^\[\]\n]*+)\]\(\s*+<?(?P<url>{_URL})>?(?:\s[^()\n]*+)?\)", re.IGNORECASE
)
_VIDEO: Final = re.compile(
    rf"<(?:video|source)\b[^<>]*?\bsrc\s*+=\s*+[\"']?(?P<url>{_URL})[\"'\s/>]", re.IGNORECASE
)
_BARE: Final = re.compile(_URL, re.IGNORECASE)
_ALONE: Final = re.compile(rf"\s*(?:>\s*)*(?P<url>{_URL})\s*", re.IGNORECASE)

_VIDEO_PATH: Final = re.compile(r"\.(?:mp4|webm|mov|m4v)$", re.IGNORECASE)
_OPAQUE_NAME: Final = re.compile(r"[0-9a-f][0-9a-f-]{30,35}", re.IGNORECASE)
_SIGNATURE: Final = re.compile(
    r"(?:^|&)(?:x-(?:amz|oss|goog|cos)-|googleaccessid|ossaccesskeyid|awsaccesskeyid|key-pair-id"
    r"|signature|sig|sign|expires|e|se|policy|token|auth_key)[^=&]*=",
    re.IGNORECASE,
)
_LABEL: Final = re.compile(
    r"click here|点击|watch|download|video|视频|下载|播放|观看|查看|▶|⏬", re.IGNORECASE
)
_WATCH: Final = re.compile(r"watch|在线|播放|观看|▶", re.IGNORECASE)
_DOWNLOAD: Final = re.compile(r"download|下载|⏬", re.IGNORECASE)
_FAILURE: Final = re.compile(
    r"❌|错误|失败|PUBLIC_ERROR_|\bfailed\b|\bfailure\b|\berror\b", re.IGNORECASE
)
_NUMBER: Final = re.compile(r"(?:video|视频|clip)\s*+#?\s*+(\d{1,2})\b", re.IGNORECASE)
_ECHO: Final = re.compile(r"\s*(?:```|~~~)\s*json\b", re.IGNORECASE)
_FENCE: Final = re.compile(r"`{3,}|~{3,}")
_BEGUN: Final = re.compile(r"h(?:t(?:t(?:ps?(?::/?)?)?)?)?\Z", re.IGNORECASE)
_UNFINISHED: Final = re.compile(rf"{_URL}\Z", re.IGNORECASE)

_SUCCESS: Final = "✅"
_LINE_CHARS_MAX: Final = 65_536
_LINKS_MAX: Final = 256
_LOOKS_MAX: Final = 100
"""How many links are looked for all over the request; any more are taken for quotations."""


def identity(url: str) -> str:
    """What makes two links the same clip: host and path where these name a file.

    A link that is signed anew differs in its query alone; any other query is part of the name.
    """
    address, _, query = url.partition("#")[0].partition("?")
    host, path = _host_and_path(address)
    names_file = _VIDEO_PATH.search(path) or _OPAQUE_NAME.fullmatch(path.rsplit("/", 1)[-1])
    if names_file and (not query or _SIGNATURE.search(query)):
        return f"{host.lower()}{path}"
    return f"{host.lower()}{path}?{query}"


def _host_and_path(url: str) -> tuple[str, str]:
    """Split without judging: `urlsplit` raises on hosts that it finds odd."""
    rest = url.partition("://")[2].partition("#")[0].partition("?")[0]
    host, slash, path = rest.partition("/")
    return host, slash + path


def _names_video(url: str) -> bool:
    return _VIDEO_PATH.search(_host_and_path(url)[1]) is not None


class Asked:
    """The words of the request, as far as links are concerned."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Take every text and link that the caller put into the request."""
        self._texts = tuple(texts)
        self._plain: str | None = None
        self._links: set[str] = set()
        self._looks = 0

    @property
    def exhausted(self) -> bool:
        """Whether more links came than were looked for, so that one may have been missed."""
        return self._looks > _LOOKS_MAX

    def contains(self, url: str) -> bool:
        """Whether `url`, or what is left of it in a quotation, stands in the request."""
        if self._plain is None:
            self._plain = "\n".join(_plain(text) for text in self._texts)
            self._links = {_wanted(link) for link in _BARE.findall(self._plain)}
        wanted = _wanted(_plain(url))
        if wanted in self._links:
            return True
        self._looks += 1
        return self.exhausted or wanted in self._plain


def _plain(text: str) -> str:
    return html.unescape(text).replace("\\/", "/").casefold()


def _wanted(link: str) -> str:
    return link.partition("://")[2].rstrip(".…,;:!?*_~")


@dataclass(frozen=True, slots=True)
class Failure:
    """A line that says that a clip failed; `number` when it names which."""

    words: str
    number: int | None


class Transcript:
    """One choice's text, piece by piece; it is read line by line.

    Only a whole line is judged, so what a line announces does not depend on where its pieces were
    cut. `link_open` and `link_begun` tell what the unfinished line may still become.
    """

    __slots__ = (
        "_asked",
        "_downloads",
        "_line",
        "_line_chars",
        "_seen",
        "_tail",
        "_watches",
        "echoing",
        "failures",
        "link_open",
    )

    def __init__(self, asked: Asked) -> None:
        """Begin before the first piece of the choice."""
        self.failures: list[Failure] = []
        self.echoing = False
        """Whether the text is inside the echo of the prompt."""
        self.link_open = False
        """Whether the unfinished line holds a link that may announce a clip."""
        self._asked = asked
        self._line: list[str] = []
        self._line_chars = 0
        self._tail = ""
        self._seen: set[str] = set()
        self._watches = 0
        self._downloads = 0

    @property
    def link_begun(self) -> bool:
        """Whether the text ends in what may be the beginning of a link."""
        return _BEGUN.search(self._tail) is not None

    def feed(self, text: str) -> list[str]:
        """The links of the lines that `text` completes, in order of appearance, each clip once."""
        links: list[str] = []
        first, *rest = text.split("\n")
        self._keep(first)
        for part in rest:
            self._end_line(links)
            self._keep(part)
        return links

    def finish(self, *, complete: bool) -> list[str]:
        """The links of a last line that has no line end; `complete` when it was not cut off.

        Of a line that was cut off, a last link counts if it is whole as far as its name tells.
        """
        links: list[str] = []
        line = "".join(self._line)
        last = _UNFINISHED.search(line)
        if last is not None and (complete or _names_video(last[0])):
            self._keep(")" if line[: last.start()].endswith("(") else " ")
        elif last is not None:
            self._line[:] = [line[: last.start()]]
        self._end_line(links)
        return links

    def _keep(self, part: str) -> None:
        if not part:
            return
        self._line.append(part)
        self._line_chars += len(part)
        self._tail = (self._tail + part)[-8:]
        if not self.link_open:
            around = (self._line[-2][-3:] if len(self._line) > 1 else "") + part
            self.link_open = "://" in around
        if self._line_chars > 2 * _LINE_CHARS_MAX:
            line = "".join(self._line)
            marked = _SUCCESS if _SUCCESS in line else ""
            self._line[:] = [marked + line[-_LINE_CHARS_MAX:]]
            self._line_chars = len(self._line[0])

    def _end_line(self, links: list[str]) -> None:
        line = "".join(self._line)
        self._line.clear()
        self._line_chars = 0
        self._tail = ""
        self.link_open = False
        if not line:
            return
        if self.echoing:
            fences = list(_FENCE.finditer(line))
            if not fences:
                return
            self.echoing = False
            line = line[fences[-1].end() :]
        elif _ECHO.match(line):
            self.echoing = len(_FENCE.findall(line)) < 2
            return
        self._read(line, links)

    def _read(self, line: str, links: list[str]) -> None:
        marked = _SUCCESS in line
        if not marked and _FAILURE.search(_BARE.sub("", line)):
            number = _NUMBER.search(line)
            failure = Failure(line.strip(" >\r")[:2000], int(number[1]) if number else None)
            self.failures.append(failure)
        elif "://" in line:
            for url, label in self._announced(line, marked=marked):
                self._take(url, label, links)

    def _announced(self, line: str, *, marked: bool) -> list[tuple[str, str]]:
        """The links in `line` that speak of a clip, in their order, each with its label."""
        found = [
            (link.start(), link["url"], link["label"])
            for link in _MARKDOWN.finditer(line)
            if marked or _names_video(link["url"]) or _LABEL.search(link["label"])
        ]
        found += [(video.start(), video["url"], "watch") for video in _VIDEO.finditer(line)]
        if marked and not found:
            found = [(bare.start(), bare[0], "") for bare in _BARE.finditer(line)]
        elif not marked and (alone := _ALONE.fullmatch(line)) and _names_video(alone["url"]):
            found = [(0, alone["url"], "")]
        return [(url, label) for _, url, label in sorted(found)]

    def _take(self, url: str, label: str, links: list[str]) -> None:
        key = identity(url)
        if key in self._seen or len(self._seen) >= _LINKS_MAX or self._asked.contains(url):
            return
        self._seen.add(key)
        known = max(self._watches, self._downloads)
        watch, download = bool(_WATCH.search(label)), bool(_DOWNLOAD.search(label))
        # One clip may come as a pair, one link to watch it and one to download it.
        self._watches += watch and not download
        self._downloads += download and not watch
        paired = watch is not download and max(self._watches, self._downloads) == known
        if not paired:
            links.append(url)
