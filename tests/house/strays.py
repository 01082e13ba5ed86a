"""What must not be committed: somebody's machine, a package index, work left undone."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Each pattern is spelt so that it does not find itself.
STRAYS = {
    "a path of one machine": r"(?<![\w.])/(?:wor[k]|roo[t]|far[m]|hom[e]|User[s])/",
    "the address of a package index": (
        r"https?://[a-z.]*(?:pyp[i]|npmj[s]|debia[n])\b|pythonhoste[d]|inde[x]-url|fin[d]-links"
    ),
}
UNDONE = (
    r"TOD[O]|FIXM[E]|XX[X]|NotImplemented[E]rror|for[ ]now|place[h]older"
    r"|(?:pytest\.|mark\.)(?:ski[p]|xfai[l])"
)


def strays(path: str, text: str) -> Iterator[str]:
    """Lines that name a machine or a package index, or, in code, that admit to be unfinished."""
    patterns = dict(STRAYS)
    if path.endswith((".py", ".js", ".ts", ".html", ".yml", ".yaml", ".sh")):
        patterns["something left undone"] = UNDONE
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in patterns.items():
            if re.search(pattern, line):
                yield f"{path}:{number}: {what}: {line.strip()[:60]}"
