"""What a built page would fetch from another place while a browser draws it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

_CSS_LOAD = re.compile(r"""(?:@import\s+(?:url\()?|url\()\s*['"]?\s*((?:https?:)?//[^'")\s]+)""")
_LOADING_LINKS = {
    "stylesheet",
    "preload",
    "prefetch",
    "modulepreload",
    "icon",
    "shortcut",
    "manifest",
    "dns-prefetch",
    "preconnect",
}


class _Loads(HTMLParser):
    """Collects what a browser would fetch from another place while it draws the page (not links to click)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "link" and not set(given.get("rel", "").split()) & _LOADING_LINKS:
            return
        names = ["href"] if tag == "link" else [] if tag == "a" else ["src", "srcset", "data", "poster"]
        names += ["xlink:href", "href"] if tag in ("image", "use") else []
        for name in names:
            self.found += (
                re.findall(r"(?:https?:)?//[^\s,'\"]+", given.get(name, "").strip())
                if _remote(given.get(name, ""))
                else []
            )
        self.found += _CSS_LOAD.findall(given.get("style", ""))
        self._inside = tag if tag in ("style", "script") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.found += _CSS_LOAD.findall(data)
        elif self._inside == "script":
            self.found += re.findall(r"https?://[^\s'\"<>`]+\.js\b", data)


def _remote(value: str) -> bool:
    return any(re.match(r"\s*(?:https?:)?//", piece) for piece in value.split(","))


def outside_loads(html: Path) -> list[str]:
    """ "page: address" for everything that a page or style sheet below `html` would fetch from another server."""
    found = []
    for path in sorted(html.rglob("*.html")):
        parser = _Loads()
        parser.feed(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(html).as_posix()}: {address}" for address in parser.found]
    for path in sorted(html.rglob("*.css")):
        found += [
            f"{path.relative_to(html).as_posix()}: {a}"
            for a in _CSS_LOAD.findall(path.read_text(encoding="utf-8", errors="replace"))
        ]
    return found
