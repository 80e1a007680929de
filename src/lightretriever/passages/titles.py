"""What the tower reads before a passage: the document's title and the headings that the passage stands under."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lightretriever.passages.units import Count

_SEPARATOR = " > "
Parts = tuple[str, ...]


def title_parts(title: str, headings: Sequence[str]) -> Parts:
    """The title, and the headings unless the first only says it again."""
    again = bool(headings) and headings[0].casefold() == " ".join(title.split()).casefold()
    return (title, *(headings[1:] if again else headings))


def shorten_titles(titles: Iterable[Parts], count: Count, most: int) -> dict[Parts, tuple[str, int]]:
    """Each title as one string of at most so many tokens, and how many it has.

    Where it is too long, the headings between the title and the last one go, then that one, then the title's end.
    """
    found: dict[Parts, tuple[str, int]] = {}
    tries = {parts: [part for part in parts if part] for parts in titles}
    while tries:
        texts = [_SEPARATOR.join(part) for part in tries.values()]
        left = {}
        for (parts, kept), text, tokens in zip(tries.items(), texts, count(texts), strict=True):
            if tokens <= most or not text:
                found[parts] = (text, tokens)
            elif len(kept) > 1:
                left[parts] = [kept[0], kept[-1]] if len(kept) > 2 else kept[:1]
            else:
                left[parts] = [_cut_title(text)]
        tries = left
    return found


def _cut_title(text: str) -> str:
    """About three quarters of it, whole words if there are several; nothing in the end."""
    words = text.removesuffix("…").split()
    if len(words) > 1:
        return " ".join(words[: max(1, 3 * len(words) // 4)]) + "…"
    kept = text.removesuffix("…")[: 3 * len(text.removesuffix("…")) // 4]
    return kept + "…" if kept else ""
