"""HTML: its main text as Markdown, without menus, banners and scripts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lightretriever.errors import MissingExtraError
from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError, about, one_line
from lightretriever.pipeline.readers.decode import decode
from lightretriever.pipeline.readers.markdown import as_markdown, plain_heading
from lightretriever.pipeline.readers.plain import first_heading

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_NEVER = (
    "script,style,noscript,template,iframe,object,embed,svg,canvas,audio,video,map,select,button,input,textarea,dialog,"
    "[hidden],[aria-hidden=true],[style*='display:none'],[style*='display: none'],"
    "a.headerlink,a.anchor,a.doc-anchor,a.anchorjs-link,a.header-anchor,a.skip-link,a.mw-editsection-visualeditor,.mw-editsection,"
    ".sr-only,.visually-hidden,.noprint"
)
_AROUND = (
    "nav,aside,form,menu,[role=navigation],[role=search],[role=banner],[role=contentinfo],[role=complementary],"
    "[role=menu],[role=menubar],[role=dialog],.sidebar,.navbar,.nav,.menu,.breadcrumb,.breadcrumbs,.toc,.toctree-wrapper,"
    ".related,.cookie,.cookies,.footer,.pagination,.share,.social,.advertisement,#sidebar,#navbar,#nav,#menu,#footer,"
    "#breadcrumb,#breadcrumbs,#toc,#table-of-contents,#menu-bar"
)
_MAIN = ("main", "[role=main]", "#main-content", "#content", "article")
_MOST = 0.3
"""The share of all text that a main element must hold to be taken for the page's."""
_SITE = re.compile(r"\s+[|–—·»]\s+|\s+-\s+(?=[^-]+$)")


def read_html(data: bytes, options: ReadOptions) -> Content:
    """The main element, or the body; headings, lists, tables and code as Markdown. Nothing it links to is fetched.

    Raises:
        UnreadableError: not text, or nothing to read in it.
        MissingExtraError: no ``selectolax``.
    """
    tree = parse(_text(data))
    fields = _about(tree)
    _without(tree, _NEVER)
    node, text = _main_text(tree, options)
    if node is None or not text:
        raise UnreadableError("there is no text in it")
    return Content(text, _title(tree, node) or first_heading(text), fields)


def parse(text: str) -> LexborHTMLParser:
    """The tree of a page. Raises MissingExtraError without ``selectolax``, UnreadableError where it has none."""
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise MissingExtraError("reading HTML, DOCX or EPUB", "documents") from None
    try:
        tree = LexborHTMLParser(text)
    except Exception as error:  # what its C half reports has no class of its own
        raise UnreadableError(f"it cannot be parsed as HTML ({type(error).__name__})") from None
    if tree.root is None:
        raise UnreadableError("there is no text in it")
    return tree


def markdown_of_page(page: str, options: ReadOptions) -> str:
    """All of a page without menus, such as a chapter of a book, as Markdown; "" where there is nothing in it.

    Raises:
        UnreadableError: it goes beyond a limit.
        MissingExtraError: no ``selectolax``.
    """
    if not page.strip():
        return ""
    tree = parse(page)
    _without(tree, _NEVER)
    body = tree.body or tree.root
    return "" if body is None else as_markdown(body, options)


def _without(tree: LexborHTMLParser, selector: str) -> None:
    for node in tree.css(selector):
        if node.tag not in ("body", "html", "main"):
            node.decompose()


def _main_text(tree: LexborHTMLParser, options: ReadOptions) -> tuple[LexborNode | None, str]:
    """The node that holds a page's main text, and that text without what stands around it."""
    body = tree.body or tree.root
    if body is None:
        return None, ""
    whole = as_markdown(body, options)
    _without(tree, _AROUND)
    chosen = _main(tree, len(whole))
    if chosen is None:
        for node in [*body.css("header"), *body.css("footer")]:
            if not _within_article(node):
                node.decompose()
        chosen = body
    # Where what is around is all there is (a page of links), that is its text.
    return chosen, as_markdown(chosen, options) or whole


def _main(tree: LexborHTMLParser, size: int) -> LexborNode | None:
    for selector in _MAIN:
        found = tree.css(selector)
        if len(found) == 1 and len(found[0].text(strip=True)) > _MOST * size:
            return found[0]
    return None


def _within_article(node: LexborNode) -> bool:
    parent = node.parent
    while parent is not None:
        if parent.tag in ("article", "main", "section"):
            return True
        parent = parent.parent
    return False


def _text(data: bytes) -> str:
    declared = _CHARSET.search(data[:4096])
    if declared is not None and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode(declared[1].decode("ascii"))
        except (LookupError, ValueError):
            pass  # it does not say the truth
    return decode(data)


def _title(tree: LexborHTMLParser, main: LexborNode) -> str:
    """The one heading of the first level in the main text, or the title without the site's name."""
    headings = main.css("h1")
    if len(headings) == 1 and (own := plain_heading(headings[0].text())):
        return own
    title = tree.css_first("title")
    parts = _SITE.split(one_line(title.text())) if title is not None else []
    return parts[0] if parts else ""


def _about(tree: LexborHTMLParser) -> dict[str, str]:
    named: dict[str, str] = {}
    for node in tree.css("meta"):
        attributes = node.attributes
        name = attributes.get("name") or attributes.get("property") or ""
        named.setdefault(name.lower(), attributes.get("content") or "")
    date = named.get("article:published_time") or named.get("date") or named.get("dc.date") or named.get("dcterms.date")
    return about(author=named.get("author") or named.get("dc.creator"), date=date)
