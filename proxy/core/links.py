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
_LABEL: Final = re.compile(
    r"click here|点击|watch|download|video|视频|下载|播放|观看|查看|▶|⏬", re.IGNORECASE
)
_WATCH: Final = re.compile(r"watch|在线|播放|观看|▶", re.IGNORECASE)
_DOWNLOAD: Final = re.compile(r"download|下载|⏬", re.IGNORECASE)
_FAILURE: Final = re.compile(
    r"❌|错误|失败|PUBLIC_ERROR_|\bfailed\b|\bfailure\b|\berror\b", re.IGNORECASE
)
_NUMBER: Final = re.compile(r"(?:video|视频|clip)\s*#?\s*(\d{1,2})\b", re.IGNORECASE)
_ECHO: Final = re.compile(r"\s*(?:```|~~~)\s*json\b", re.IGNORECASE)
_FENCE: Final = re.compile(r"\s*(?:```|~~~)\s*$")

_SUCCESS: Final = "✅"
_LINE_CHARS_MAX: Final = 65_536
_LINKS_MAX: Final = 256


def identity(url: str) -> str:
    """What makes two links the same clip: host and path where the path names a file.

    A link that is signed anew differs in its query alone. Where the path is no name (`/get?id=7`),
    the query counts.
    """
    host, path = _host_and_path(url)
    if _VIDEO_PATH.search(path) or _OPAQUE_NAME.fullmatch(path.rsplit("/", 1)[-1]):
        return f"{host.lower()}{path}"
    return url.partition("#")[0]


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

    def contains(self, url: str) -> bool:
        """Whether `url`, or what is left of it in a quotation, stands in the request."""
        if self._plain is None:
            self._plain = "\n".join(_plain(text) for text in self._texts)
        wanted = _plain(url).partition("://")[2].rstrip(".…,;:!?*_~")
        return wanted in self._plain


def _plain(text: str) -> str:
    return html.unescape(text).replace("\\/", "/").casefold()


@dataclass(frozen=True, slots=True)
class Failure:
    """A line that says that a clip failed; `number` when it names which."""

    words: str
    number: int | None


class Transcript:
    """One choice's text, piece by piece."""

    __slots__ = ("_asked", "_echo", "_line", "_seen", "_watched", "failures")

    def __init__(self, asked: Asked) -> None:
        """Begin before the first piece of the choice."""
        self.failures: list[Failure] = []
        self._asked = asked
        self._line = ""
        self._echo = False
        self._seen: set[str] = set()
        self._watched = 0

    def feed(self, text: str) -> list[str]:
        """The links that `text` completes, in order of appearance, each clip once."""
        links: list[str] = []
        *lines, rest = (self._line + text).split("\n")
        for line in lines:
            self._read(line, links, complete=True)
        self._line = rest if len(rest) <= _LINE_CHARS_MAX else rest[-_LINE_CHARS_MAX // 4 :]
        if self._line:
            self._read(self._line, links, complete=False)
        return links

    def finish(self, *, complete: bool) -> list[str]:
        """The links of a last line that has no line end; `complete` when it was not cut off."""
        links: list[str] = []
        self._read(self._line, links, complete=complete)
        self._line = ""
        return links

    def _read(self, line: str, links: list[str], *, complete: bool) -> None:
        if self._echo:
            self._echo = not (complete and _FENCE.match(line))
            return
        if _ECHO.match(line):
            self._echo = complete and line.count("```") < 2
            return
        if "://" not in line and not complete:
            return
        marked = _SUCCESS in line
        if not marked and _FAILURE.search(_BARE.sub("", line)):
            if complete:
                number = _NUMBER.search(line)
                failure = Failure(line.strip(" >\r")[:2000], int(number[1]) if number else None)
                self.failures.append(failure)
            return
        if "://" in line:
            self._find(line, links, marked=marked, complete=complete)

    def _find(self, line: str, links: list[str], *, marked: bool, complete: bool) -> None:
        spans: list[tuple[int, str]] = []
        for link in _MARKDOWN.finditer(line):
            label, url = link["label"], link["url"]
            if marked or _names_video(url) or _LABEL.search(label):
                if self._is_download_of_watched(label, url):
                    continue
                spans.append((link.start(), url))
        spans += [(video.start(), video["url"]) for video in _VIDEO.finditer(line)]
        if marked and not spans:
            spans = [
                (bare.start(), bare[0])
                for bare in _BARE.finditer(line)
                if complete or bare.end() < len(line) or _names_video(bare[0])
            ]
        elif not marked and (alone := _ALONE.fullmatch(line)) and _names_video(alone["url"]):
            spans = [(0, alone["url"])]
        for _, url in sorted(spans):
            key = identity(url)
            if key in self._seen or len(self._seen) >= _LINKS_MAX or self._asked.contains(url):
                continue
            self._seen.add(key)
            links.append(url)

    def _is_download_of_watched(self, label: str, url: str) -> bool:
        """Whether the link is the second of a "watch" and "download" pair for one clip."""
        if identity(url) in self._seen or self._asked.contains(url):
            return False
        if _WATCH.search(label):
            self._watched += 1
        elif _DOWNLOAD.search(label) and self._watched:
            self._watched -= 1
            self._seen.add(identity(url))
            return True
        return False
