"""Small files of many formats, made by hand."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def docx(paragraphs: Sequence[tuple[str, str]], title: str = "", extra: Mapping[str, str] | None = None) -> bytes:
    """Paragraphs, each with its style: "Heading1", "Title" or "" for none."""
    body = "".join(
        f"<w:p><w:pPr>{style}</w:pPr><w:r><w:t>{escape(text)}</w:t></w:r></w:p>"
        for style, text in ((f"<w:pStyle w:val={style!r}/>" if style else "", text) for style, text in paragraphs)
    )
    names = {"Heading1": "heading 1", "Heading2": "heading 2", "Title": "Title"}
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>'
        for key, name in names.items()
    )
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    members = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{relation}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'relationships"><Relationship Id="r1" Type="{relation}/styles" Target="styles.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>',
        "word/styles.xml": f'<w:styles xmlns:w="{WORD}">{styles}</w:styles>',
        "docProps/core.xml": '<cp:coreProperties xmlns:cp="x" xmlns:dc="y" xmlns:dcterms="z">'
        f"<dc:title>{escape(title)}</dc:title><dc:creator>Ada</dc:creator>"
        "<dcterms:created>2024-05-01T10:00:00Z</dcterms:created></cp:coreProperties>",
    }
    return zipped({**members, **(extra or {})})


def epub(chapters: Sequence[str], title: str = "A Book", extra: Mapping[str, str] | None = None) -> bytes:
    items = "".join(
        f'<item id="c{place}" href="ch%20{place}.xhtml" media-type="application/xhtml+xml"/>'
        for place in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{place}"/>' for place in range(len(chapters)))
    members = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
        "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>{escape(title)}</dc:title><dc:creator>Ada</dc:creator><dc:date>2020</dc:date></metadata>"
        '<manifest><item id="n" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
        f"{items}</manifest>"
        f'<spine><itemref idref="n"/>{spine}</spine></package>',
        "OEBPS/nav.xhtml": "<html><body><nav>Contents</nav></body></html>",
    }
    for place, chapter in enumerate(chapters):
        members[f"OEBPS/ch {place}.xhtml"] = (
            '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head>'
            f"<title>x</title></head><body>{chapter}</body></html>"
        )
    return zipped({**members, **(extra or {})})


def pdf(pages: Sequence[Sequence[str]], title: str = "") -> bytes:
    """Pages of lines, in Helvetica."""
    objects = ["<</Type/Catalog/Pages 2 0 R>>", ""]
    objects.append("<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>")
    kids = []
    for lines in pages:
        shown = " ".join(f"({line}) Tj 0 -14 Td" for line in lines)
        stream = f"BT /F1 12 Tf 72 720 Td {shown} ET"
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
        page = f"/Parent 2 0 R/MediaBox[0 0 612 792]/Contents {len(objects)} 0 R/Resources<</Font<</F1 3 0 R>>>>"
        objects.append(f"<</Type/Page{page}>>")
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(kids)}]>>"
    objects.append(f"<</Title({title})/Author(Ada)/CreationDate(D:20240501120000Z)>>")
    out, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj{body}endobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"trailer<</Size {len(objects) + 1}/Root 1 0 R/Info {len(objects)} 0 R>>\nstartxref\n{len(out)}\n%%EOF"
    return f"{out}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}{end}".encode("latin-1")


def notebook(cells: Sequence[tuple[str, str]]) -> bytes:
    made = [{"cell_type": kind, "metadata": {}, "source": text.splitlines(True), "outputs": []} for kind, text in cells]
    about = {"language_info": {"name": "python"}}
    return json.dumps({"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}).encode()


def message(subject: str = "Hello", body: str = "Text of it.\n", kind: str = "plain") -> bytes:
    head = f"From: Ada <ada@example.org>\nSubject: {subject}\nDate: Wed, 01 May 2024 12:00:00 +0000\n"
    return f"{head}Content-Type: text/{kind}; charset=utf-8\n\n{body}".encode()
