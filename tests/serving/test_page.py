"""The page as it is served: what works without a script, and that no text of anybody's becomes markup."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import hypothesis.strategies as st
import pytest
from hypothesis import given
from index.conftest import WORDS, RandomTower, make_encoder
from serving.conftest import Guarded
from serving.running import Running, running

from lightretriever import Index
from lightretriever.serving.page.markup import Html, element, join, link, marked
from lightretriever.text.corpus import Document

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Documents all of whose fields are markup, one of which has an id to match."""
    folder = tmp_path_factory.mktemp("evil")
    documents = [
        Document(f"a/b?c#d {EVIL}", f"{WORDS[1]} {EVIL} {WORDS[2]}", EVIL, {EVIL: EVIL[:20], "lang": "en", "n": 1}),
        Document("plain", WORDS[2], "", {"lang": "de", "n": 2}),
    ]
    encoded = RandomTower().encode(documents)
    with Index.create(folder / "i", make_encoder()) as index:
        rows = [{"title": d.title, "text": d.text, "metadata": dict(d.metadata)} for d in documents]
        index.add([d.id for d in documents], encoded, rows)
    with running(folder / "i") as found:
        yield found


class Elements(HTMLParser):
    """The elements of a page, their attributes, and the text in them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page(server: Running, path: str = "/", status: int = 200, **fields: object) -> Elements:
    answer = server.get(f"{path}?{urlencode(fields)}" if fields else path)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    elements = Elements(answer.body.decode())
    scripts = [attributes.get("src") for attributes in elements.of("script")]
    assert scripts in ([], ["/assets/search.js"])
    for tag, attributes in elements.found:
        assert tag not in ("style", "iframe", "object", "base")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("href", "src", "action"):
            target = attributes.get(name) or "/"
            assert target.startswith(("/", "#", "data:image/svg")), target
    return elements


def test_the_form_works_without_a_script(server: Running) -> None:
    empty = page(server)
    (form,) = empty.of("form")
    assert (form["action"], form["method"], form["role"]) == ("/", "get", "search")
    assert {field["name"] for field in empty.of("input")} == {"q", "mode", "filter"}
    found = page(server, q=WORDS[3], mode="sparse", k=5, filter='{"even": true}')
    asked = {"query": WORDS[3], "mode": "sparse", "k": 5, "filter": {"even": True}}
    api = server.post("/search", asked).json["hits"]
    titles = [link["href"] for link in found.of("a") if (link["href"] or "").startswith("/read/")]
    assert titles == [f"/read/{hit['id']}" for hit in api]
    typed = {field["name"]: field for field in found.of("input") if field.get("type") != "radio"}
    assert typed["q"]["value"] == WORDS[3] and typed["filter"]["value"] == '{"even": true}'
    checked = [field["value"] for field in found.of("input") if "checked" in field]
    assert checked == ["sparse"]
    assert f"words {api[0]['sparse_score']:.2f}, no. 1" in found.text and "earned by" in found.text
    assert re.search(r"5 documents in \d+\.\d ms", found.text)
    assert found.of("mark")


def test_a_part_of_it_is_given_alone(server: Running) -> None:
    part = server.get(f"/?q={WORDS[3]}&part=results")
    assert part.status == 200 and b"<html" not in part.body and b"<ol>" in part.body
    hits = re.sub(rb"^.*?<ol>", b"", part.body)
    assert hits in server.get(f"/?q={WORDS[3]}").body


def test_what_is_wrong_is_said_on_the_page(server: Running) -> None:
    for fields, status, said in [
        ({"q": "a", "filter": "nonsense"}, 422, "the filter is not JSON"),
        ({"q": "a", "filter": '{"x": {"$y": 1}}'}, 422, "operator '$y'"),
        ({"q": "a", "k": 5000}, 422, "at most 1,000"),
        ({"q": "a", "mode": "fast"}, 422, "fast"),
        ({"q": "a" * 9000}, 422, "9,000 characters"),
        ({"q": "a", "full": "on"}, 409, "--model"),
    ]:
        found = page(server, status=status, **fields)
        assert said in found.text, fields
        assert any(attributes.get("role") == "alert" for _, attributes in found.found)
    assert "No document was found" in page(server, q=WORDS[3], filter='{"even": "never"}').text
    assert page(server, "/read/nobody", 404).text.count("nobody") == 1


def test_nothing_that_is_typed_or_stored_becomes_markup(evil: Running) -> None:
    conditions = json.dumps({"x": EVIL, EVIL: 1})
    for fields in ({"q": EVIL}, {"q": WORDS[1], "filter": conditions}, {"q": WORDS[2]}):
        found = page(evil, **fields)
        assert not found.of("img")
    hits = page(evil, q=WORDS[2])
    assert EVIL in hits.text
    targets = [link["href"] or "" for link in hits.of("a") if (link["href"] or "").startswith("/read/")]
    for target in targets:
        read = page(evil, target)
        assert WORDS[2] in read.text
    assert any(EVIL in page(evil, target).text for target in targets)


def test_metadata_leads_to_documents_that_have_the_same(evil: Running) -> None:
    hits = page(evil, q=WORDS[2])
    (german,) = [link for link in hits.of("a") if link.get("title") == "only documents with lang de"]
    narrowed = page(evil, str(german["href"]))
    assert "1 document in" in narrowed.text and "lang: de ✕" in narrowed.text
    (back,) = [link for link in narrowed.of("a") if link.get("aria-label") == "without lang: de"]
    assert "2 documents in" in page(evil, str(back["href"])).text


def test_what_it_loads(server: Running) -> None:
    for name, kind in (("page.css", "text/css"), ("search.js", "text/javascript")):
        answer = server.get(f"/assets/{name}")
        assert answer.status == 200 and answer.headers["content-type"].startswith(kind)
        again = server.get(f"/assets/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
    for name in ("page.html", "../page/page.css", "%2e%2e/app.py"):
        assert server.get(f"/assets/{name}").status == 404


def test_the_calls_are_described_on_a_page_of_our_own(server: Running) -> None:
    described = server.get("/openapi.json").json
    found = page(server, "/docs")
    for path, methods in described["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in found.text
    ids = {attributes["id"] for _, attributes in found.found if "id" in attributes}
    for link_ in found.of("a"):
        href = link_["href"] or ""
        assert not href.startswith("#") or href[1:] in ids


def test_with_keys_a_browser_asks_for_one(guarded: Guarded) -> None:
    import base64

    server = guarded.server
    for path in ("/", "/read/d1", "/?q=w01&part=results"):
        refused = server.get(path)
        assert refused.status == 401 and refused.headers["www-authenticate"].startswith("Basic ")
        assert refused.headers["content-type"].startswith("text/html")
    assert server.get("/assets/search.js").status == 200
    login = {"authorization": "Basic " + base64.b64encode(f"me:{guarded.read}".encode()).decode()}
    form = Elements(server.get("/", headers=login).body.decode())
    assert "tenant" in {field["name"] for field in form.of("input")}
    assert b"1 document" in server.get("/?q=w01+w02&k=1&tenant=bob", headers=login).body
    anns = {"authorization": "Basic " + base64.b64encode(f"me:{guarded.ann}".encode()).decode()}
    own = Elements(server.get("/?q=w01", headers=anns).body.decode())
    assert "tenant" not in {field["name"] for field in own.of("input")}


def test_a_server_of_tables_has_a_page_that_says_so(tmp_path: Path) -> None:
    make_encoder().table.save(tmp_path / "table")
    with running(tmp_path / "table") as server:
        assert "Embeddings alone are served" in page(server).text


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(TEXT, TEXT, st.lists(TEXT, max_size=3))
def test_text_stays_text(text: str, value: str, others: list[str]) -> None:
    made = element("p", text, element("b", *others), title=value)
    read = Elements(made)
    assert [tag for tag, _ in read.found] == ["p", "b"]
    assert read.found[0][1] == {"title": value}
    assert read.text == text + "".join(others)


@given(TEXT, st.data())
def test_marks_change_nothing_of_a_text(text: str, data: st.DataObject) -> None:
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(places[::2], places[1::2], strict=False))
    made = marked(text, spans)
    assert html.unescape(re.sub(r"</?mark>", "", made)) == html.unescape(html.escape(text))
    assert made.count("<mark>") == len(spans)


def test_elements_and_links() -> None:
    assert element("input", name="a", checked=True, value=None, hidden=False) == '<input name="a" checked>'
    assert element("label", "x", for_="y", aria_label="z") == '<label for="y" aria-label="z">x</label>'
    assert join(["<", Html("<br>"), None, ""], " ") == "&lt; <br>"
    assert link("/", q="a b&c", k=None, mode="") == "/?q=a+b%26c"
