"""Each format by what comes out of a file of it."""

from __future__ import annotations

from pathlib import Path

import made_files
import pytest

from lightretriever.pipeline.readers.reader import read_file
from lightretriever.pipeline.walk import Found, walk
from lightretriever.text.corpus import Document

for library in ("pypdfium2", "selectolax", "mammoth", "charset_normalizer"):
    pytest.importorskip(library)


def read(folder: Path, name: str, data: bytes) -> Document:
    path = folder / name
    path.write_bytes(data)
    (found,) = walk([path])
    assert isinstance(found, Found)
    (document,) = read_file(found)
    assert document.id == name
    assert document.metadata["path"] == name
    assert str(document.metadata["modified"]).endswith("Z")
    return document


def test_text_and_code(tmp_path: Path) -> None:
    assert read(tmp_path, "notes.txt", b"One\r\ntwo").text == "One\ntwo"
    assert read(tmp_path, "notes.txt", b"One").title == "notes"
    code = read(tmp_path, "a.py", b"print()\n")
    assert (code.title, code.metadata["type"]) == ("a.py", "code")
    assert read(tmp_path, "LICENSE", b"Apache").metadata["type"] == "text"


def test_markdown(tmp_path: Path) -> None:
    text = b"---\ntitle: 'Own'\nauthor: Ada\n---\n# Heading\n\ntext"
    document = read(tmp_path, "a.md", text)
    assert (document.title, document.metadata["author"], document.text) == ("Own", "Ada", "# Heading\n\ntext")
    assert read(tmp_path, "a.md", b"```\n# no\n```\n## [Yes](x.md) `it` is ##\n").title == "Yes it is"
    assert read(tmp_path, "a.md", b"Under\n=====\ntext").title == "Under"
    assert read(tmp_path, "a.md", b"text alone").title == "a"


def test_restructured(tmp_path: Path) -> None:
    text = b""":author: Ada

=====
Guide
=====

See :ref:`the start <start>`, :class:`~a.b.Cat` and ``code``, or `site <https://x.y>`_ *now*.

.. toctree::
   other

.. note:: Mind
   this.

First::

    $ run it
    # twice

Second part
-----------

.. code-block:: python
   :linenos:

   def f():
       pass

.. a remark
   of two lines

- one
- two
"""
    document = read(tmp_path, "a.rst", text)
    assert (document.title, document.metadata["author"]) == ("Guide", "Ada")
    assert (
        document.text
        == """# Guide

See the start, Cat and `code`, or site now.

Mind

this.

First:

```
$ run it
# twice
```

## Second part

```python
def f():
    pass
```

- one
- two"""
    )


def test_html(tmp_path: Path) -> None:
    page = b"""<!DOCTYPE html><html><head><title>Cats | Site</title><meta name=author content=Ada><script>bad()</script>
<style>p {}</style></head><body><header>Banner</header><nav><a href=/>Menu</a></nav>
<h1>Cats<a class="headerlink">#</a></h1><p>Cats
<b>sleep</b> much.<br>Always.</p><h2>Food</h2><ul><li>fish<ol><li>raw</li></ol></li><li>mice</li></ul>
<pre><code class="language-python">def f():
    pass</code></pre><table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table><p># not a heading</p>
<footer>Imprint</footer></body></html>"""
    document = read(tmp_path, "a.html", page)
    assert (document.title, document.metadata["type"], document.metadata["author"]) == ("Cats", "html", "Ada")
    assert (
        document.text
        == """# Cats

Cats sleep much.
Always.

## Food

- fish
  1. raw
- mice

```python
def f():
    pass
```

| a | b |
| --- | --- |
| 1 | 2 |

\\# not a heading"""
    )


def test_html_main_element_and_encoding(tmp_path: Path) -> None:
    page = (
        "<html><head><meta charset='iso-8859-1'><title>T - Site</title></head><body><div>around</div><main>café</main>"
    )
    document = read(tmp_path, "a.htm", page.encode("latin-1"))
    assert (document.text, document.title) == ("café", "T")
    book = (
        b"<title>Owning - The Book</title><header><h1>The Book</h1></header><main><h2>\xc2\xa7What</h2><p>text</main>"
    )
    document = read(tmp_path, "c.html", book)
    assert (document.title, document.text) == ("Owning", "## What\n\ntext")
    links = b"<html><body><nav><a href=a>First</a> <a href=b>Second</a></nav></body></html>"
    assert read(tmp_path, "b.html", links).text == "First Second"


def test_pdf(tmp_path: Path) -> None:
    pages = [["Handbook", f"The text of page {number} is long-", "lived.", str(number)] for number in range(1, 6)]
    document = read(tmp_path, "a.pdf", made_files.pdf(pages, "Of Cats"))
    assert (document.title, document.metadata["author"], document.metadata["date"]) == ("Of Cats", "Ada", "2024-05-01")
    texts = document.text.split("\f")
    assert texts == [f"The text of page {number} is longlived." for number in range(1, 6)]
    assert read(tmp_path, "b.pdf", made_files.pdf([["One"]], "Microsoft Word - b.doc")).title == "b"


def test_docx(tmp_path: Path) -> None:
    given = made_files.docx([("Heading1", "Cats"), ("", "They sleep."), ("Heading2", "Food"), ("", "Fish & mice.")])
    document = read(tmp_path, "a.docx", given)
    assert document.text == "# Cats\n\nThey sleep.\n\n## Food\n\nFish & mice."
    assert (document.title, document.metadata["author"]) == ("Cats", "Ada")
    assert read(tmp_path, "b.docx", made_files.docx([("", "text")], "Own")).title == "Own"


def test_epub(tmp_path: Path) -> None:
    document = read(tmp_path, "a.epub", made_files.epub(["<h1>One</h1><p>First.</p>", "<h1>Two</h1><p>Last.</p>"]))
    assert document.text == "# One\n\nFirst.\n\n# Two\n\nLast."
    assert (document.title, document.metadata["author"], document.metadata["date"]) == ("A Book", "Ada", "2020")


def test_notebook(tmp_path: Path) -> None:
    document = read(tmp_path, "a.ipynb", made_files.notebook([("markdown", "# Plot\nit"), ("code", "x = 1\n")]))
    assert (document.text, document.title) == ("# Plot\nit\n\n```python\nx = 1\n```", "Plot")


def test_message(tmp_path: Path) -> None:
    document = read(tmp_path, "a.eml", made_files.message("=?utf-8?q?Caf=C3=A9?="))
    assert (document.title, document.text) == ("Café", "Text of it.")
    assert document.metadata["author"] == "Ada <ada@example.org>"
    assert document.metadata["date"] == "2024-05-01T12:00:00+00:00"
    page = made_files.message(body="<h2>News</h2><p>Cats.</p>", kind="html")
    assert read(tmp_path, "b.eml", page).text == "## News\n\nCats."


def test_mailbox_is_a_document_a_message(tmp_path: Path) -> None:
    path = tmp_path / "all.mbox"
    one, two = made_files.message("One", "From here\n>From there\n"), made_files.message("Two")
    path.write_bytes(b"From a@b Wed May 1\n" + one + b"\nFrom a@b Wed May 1\n" + two)
    (found,) = walk([path])
    assert isinstance(found, Found)
    documents = list(read_file(found))
    assert [(document.id, document.title) for document in documents] == [("all.mbox#1", "One"), ("all.mbox#2", "Two")]
    assert documents[0].text == "From here\nFrom there"
    assert documents[0].metadata["type"] == "mbox"


def test_subtitles(tmp_path: Path) -> None:
    srt = b"1\n00:00:01,000 --> 00:00:02,500\n<i>Where</i> is\nthe cat?\n\n2\n00:00:02,600 --> 00:00:03,000\nThere.\n\n"
    srt += b"3\n00:01:00,000 --> 00:01:02,000\n{\\an8}Later.\n"
    assert read(tmp_path, "a.srt", srt).text == "Where is the cat? There.\n\nLater."
    vtt = b"WEBVTT\n\nNOTE not said\n\nid\n00:01.000 --> 00:02.000 align:start\n<v Ada>Cats &amp; mice\n\n"
    vtt += b"00:02.000 --> 00:03.000\nCats &amp; mice\nsleep<00:02.500><c> now</c>\n"
    assert read(tmp_path, "a.vtt", vtt).text == "Cats & mice sleep now"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Grüße aus Köln, schöne Straße", "cp1252"),
        ("Le café « déjà vu » coûte 5 € — voilà", "cp1252"),
        ("plain words, naïve", "utf-16"),
        ("plain words, naïve", "utf-8-sig"),
        ("plain words of the West", "utf-16-le"),
        ("Кошка спит на окне весь день, а собака лежит у двери и ждёт хозяина. Вечером они ужинают.", "cp1251"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "shift_jis"),
        ("猫 in UTF-8", "utf-8"),
    ],
)
def test_encodings(tmp_path: Path, text: str, encoding: str) -> None:
    assert read(tmp_path, "a.txt", text.encode(encoding)).text == text
