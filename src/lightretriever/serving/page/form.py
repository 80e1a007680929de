"""The form: a query, how to search, a filter. It works as it stands; a script only makes it quicker."""

from __future__ import annotations

import json

from lightretriever.serving.page.asked import PageParameters
from lightretriever.serving.page.markup import Html, element, join

_MODES = {"hybrid": "both", "dense": "meaning", "sparse": "words"}
_COUNTS = (5, 10, 20, 50)


def form(asked: PageParameters, tenants: str | None, model: bool, sparse: bool) -> Html:
    """The form, filled in.

    Args:
        asked: with what.
        tenants: the field by which the index keeps tenants apart, whose value has to be given; None: no such field.
        model: whether queries can be read in full.
        sparse: whether the index has both arms.
    """
    counts = sorted({*_COUNTS, asked.k})
    options = [element("option", str(count), value=count, selected=count == asked.k) for count in counts]
    parts = [
        _modes(asked) if sparse else None,
        element("label", "Show ", element("select", *options, name="k")),
        _full(asked) if model else None,
    ]
    return element(
        "form",
        _box(asked),
        element("div", *parts, class_="options"),
        _filter(asked),
        _tenant(asked, tenants) if tenants is not None else None,
        role="search",
        action="/",
        method="get",
    )


def _box(asked: PageParameters) -> Html:
    typed = element(
        "input",
        id="q",
        name="q",
        type="search",
        value=asked.q,
        autofocus=not asked.q,
        autocomplete="off",
        autocapitalize="off",
        spellcheck="false",
        enterkeyhint="search",
        aria_label="Search for",
        placeholder="Search for …",
    )
    return element("div", typed, element("button", "Search", type="submit"), class_="box")


def _modes(asked: PageParameters) -> Html:
    radios = [
        element(
            "label",
            element("input", type="radio", name="mode", value=mode, checked=mode == asked.mode),
            name,
        )
        for mode, name in _MODES.items()
    ]
    return element("fieldset", element("legend", "Search by"), *radios)


def _full(asked: PageParameters) -> Html:
    box = element("input", type="checkbox", name="full", value="on", checked=bool(asked.full))
    return element("label", box, "Enter has the model read the query")


def _filter(asked: PageParameters) -> Html:
    typed = element(
        "input",
        id="filter",
        name="filter",
        value=asked.filter,
        autocomplete="off",
        spellcheck="false",
        placeholder='{"field": "value"}',
    )
    chips = []
    for name, value in asked.conditions.items():
        rest = {other: kept for other, kept in asked.conditions.items() if other != name}
        href = asked.address(filter=json.dumps(rest, ensure_ascii=False) if rest else "")
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        chips.append(
            element("a", f"{name}: {shown} ✕", href=href, class_="chip", aria_label=f"without {name}: {shown}")
        )
    return element("div", element("label", "Filter", for_="filter"), typed, join(chips, " "), class_="filter")


def _tenant(asked: PageParameters, field: str) -> Html:
    typed = element("input", id="tenant", name="tenant", value=asked.tenant, autocomplete="off")
    return element("div", element("label", field, for_="tenant"), typed, class_="filter")
