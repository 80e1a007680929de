"""HTML, written so that text cannot become markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import urlencode

from starlette.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""What a browser may load for our pages: our own files, nothing inline, nothing from elsewhere."""
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class Html(str):
    """Markup, which is put into other markup as it is."""

    __slots__ = ()


def element(tag: str, /, *inside: str | None, **attributes: str | bool | int | None) -> Html:
    """An element around text, which is escaped, and markup, which is not. An attribute of None or False is left out, of
    True has no value; ``class_`` is class, and an underscore a hyphen."""
    parts = []
    for key, value in attributes.items():
        label = key.rstrip("_").replace("_", "-")
        if value is True:
            parts.append(f" {label}")
        elif value is not None and value is not False:
            parts.append(f' {label}="{escape(str(value))}"')
    opened = f"<{tag}{''.join(parts)}>"
    return Html(opened if tag in ("input", "meta", "link", "br") else f"{opened}{join(inside)}</{tag}>")


def join(parts: Iterable[str | None], between: str = "") -> Html:
    """Parts one after another: text escaped, markup as it is."""
    kept = [part if isinstance(part, Html) else escape(part) for part in parts if part]
    return Html(between.join(kept))


def marked(text: str, spans: Iterable[tuple[int, int]]) -> Html:
    """A text with the words in some places marked."""
    pieces: list[str] = []
    at = 0
    for start, end in spans:
        pieces += [text[at:start], element("mark", text[start:end])]
        at = end
    return join([*pieces, text[at:]])


def link(path: str, **parameters: str | int | None) -> str:
    """A link within the site; parameters of None or "" are left out."""
    kept = {name: value for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path


def asset(name: str) -> str:
    """A file of the page, as text."""
    return files(__package__).joinpath(name).read_text("utf-8")


def whole_page(title: str, body: Html, script: bool = False) -> Html:
    """A page around its body."""
    loaded = element("script", src="/assets/search.js", defer=True) if script else Html("")
    return Html(Template(asset("page.html")).substitute(title=escape(title), body=body, script=loaded))


def html(content: Html, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """As an answer, under the strict policy."""
    return Response(content, status, {**_HEADERS, **(headers or {})}, "text/html; charset=utf-8")
