"""What cannot be read, what is too large, and what must not happen."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path

import made_files
import pytest

from lightretriever.errors import InputError, MissingExtraError
from lightretriever.pipeline.readers.content import ReadOptions
from lightretriever.pipeline.readers.reader import Reader, read_file
from lightretriever.pipeline.walk import Found

for library in ("pypdfium2", "selectolax", "mammoth", "charset_normalizer"):
    pytest.importorskip(library)


def found(folder: Path, name: str, data: bytes) -> Found:
    (folder / name).write_bytes(data)
    return Found(folder / name, name, len(data), 0)


def refused(one: Found, **limits: float) -> str:
    with pytest.raises(InputError) as raised:
        list(read_file(one, ReadOptions(**limits)))  # type: ignore[arg-type]
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(str(one.path))
    return said


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"\x00\x01\x02\xff", "it is not text"),
        ("a", b"\x7fELF\x02\x01\x01\x00\x00", "it is not text"),
        ("a.pdf", b"%PDF-1.4 nothing", "it is damaged"),
        ("a.docx", b"PK", "no whole zip archive"),
        ("b.docx", made_files.zipped({"a": "b"}), "no Word document"),
        ("a.epub", made_files.zipped({"a": "b"}), "it holds no META-INF/container.xml"),
        ("a.html", b"<html><body><script>x</script>", "no text"),
        ("a.ipynb", b"{", "it is not JSON"),
        ("b.ipynb", b"[" * 100_000, "it is not JSON"),
        ("c.ipynb", b"{}", "it has no cells"),
        ("a.eml", b"words", "it is no message"),
        ("a.mbox", b"words\n", "it is no mailbox"),
        ("a.pptx", b"PK\x03\x04\0\0", "save it as PDF"),
        ("c.pdf", made_files.pdf([[]]), "hold no text"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    assert reason in refused(found(tmp_path, name, data))


def test_limits_are_named(tmp_path: Path) -> None:
    assert "max_bytes" in refused(found(tmp_path, "a.txt", b"long text"), max_bytes=8)
    assert "it has 12 pages, more than 10 (max_pages)" in refused(
        found(tmp_path, "a.pdf", made_files.pdf([["x"]] * 12)), max_pages=10
    )
    bomb = made_files.docx([("", "text")], extra={"word/media/x.bin": "0" * 10_000_000})
    assert "max_unpacked" in refused(found(tmp_path, "a.docx", bomb), max_unpacked=1_000_000)
    assert "max_unpacked" in refused(found(tmp_path, "a.html", b"<p>" + b"word " * 1000), max_unpacked=1000)
    mail = b"From a@b\n" + made_files.message() + b"\nFrom a@b\n" + made_files.message(body="x" * 9000)
    reader, documents = Reader(ReadOptions(max_bytes=9000)), []
    with reader, pytest.raises(InputError, match=r"message 2: .*max_bytes"):
        documents.extend(reader.read(found(tmp_path, "a.mbox", mail)))


def test_a_member_that_lies_about_its_size_is_cut_off(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", b" " * 5_000_000)
    data = file.getvalue().replace((5_000_000).to_bytes(4, "little"), (500).to_bytes(4, "little"))
    assert "damaged" in refused(found(tmp_path, "a.epub", data), max_unpacked=1_000_000)


def test_a_document_that_takes_too_long_ends_its_process_only(tmp_path: Path) -> None:
    slow = found(tmp_path, "a.pdf", made_files.pdf([["some words"] * 500] * 3000))
    with Reader(ReadOptions(seconds=0.05)) as reader:
        with pytest.raises(InputError, match=r"takes longer than 0\.05 seconds"):
            list(reader.read(slow))
        (document,) = reader.read(found(tmp_path, "b.ipynb", made_files.notebook([("markdown", "# B")])))
        assert document.title == "B"


def test_memory_is_bounded(tmp_path: Path) -> None:
    large = found(tmp_path, "a.html", b"<p>x</p>" * 4_000_000)
    assert "memory" in (said := refused(large, max_memory=300 << 20)) or "ended" in said


def test_deep_nesting(tmp_path: Path) -> None:
    deep = found(tmp_path, "a.html", b"<div><b><ul><li>" * 5_000 + b"x")
    (document,) = read_file(deep)
    assert document.text.endswith("x")
    notes = "".join(" " * level + ".. note::\n\n" for level in range(1500)) + " " * 1500 + "last"
    (document,) = read_file(found(tmp_path, "a.rst", notes.encode()))
    assert document.text.endswith("last")
    inner = "<w:sdt><w:sdtContent>" * 3000 + "</w:sdtContent></w:sdt>" * 3000
    xml = f'<w:document xmlns:w="{made_files.WORD}"><w:body>{inner}</w:body></w:document>'
    refused(found(tmp_path, "a.docx", made_files.docx([], extra={"word/document.xml": xml})))
    xml = "<a>" * 3000 + "</a>" * 3000
    assert "nested deeper" in refused(found(tmp_path, "a.epub", made_files.epub([], extra={"OEBPS/book.opf": xml})))


def test_entities_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password")
    declared = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>'
    package = f"{declared}<package><metadata><title>&e;</title></metadata></package>"
    assert "entities" in refused(found(tmp_path, "a.epub", made_files.epub([], extra={"OEBPS/book.opf": package})))
    body = f'{declared}<w:document xmlns:w="{made_files.WORD}"><w:body><w:p/></w:body></w:document>'
    assert "entities" in refused(found(tmp_path, "a.docx", made_files.docx([], extra={"word/document.xml": body})))
    (document,) = read_file(found(tmp_path, "a.html", f"{declared}<p>a &e; b<img src='file://{secret}'>".encode()))
    assert "password" not in document.text


def test_modules_among_the_documents_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "selectolax.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    assert list(read_file(Found(Path("a.html"), "a.html", 9, 0))) if found(tmp_path, "a.html", b"<p>text") else None
    assert not (tmp_path / "ran").exists()


def test_a_file_that_went_away_or_became_a_pipe(tmp_path: Path) -> None:
    gone = Found(tmp_path / "gone.txt", "gone.txt", 1, 0)
    assert "cannot be read" in refused(gone)
    os.mkfifo(tmp_path / "pipe.txt")
    assert "it is no file" in refused(Found(tmp_path / "pipe.txt", "pipe.txt", 1, 0))
    (tmp_path / "folder.txt").mkdir()
    refused(Found(tmp_path / "folder.txt", "folder.txt", 1, 0))


def test_an_absent_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = found(tmp_path, "a.txt", "кошка".encode("cp1251"))
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    with pytest.raises(MissingExtraError, match="documents"):
        list(read_file(one))


def test_one_process_reads_many_files_and_is_ended(tmp_path: Path) -> None:
    with Reader() as reader:
        for number in range(5):
            (document,) = reader.read(found(tmp_path, f"{number}.html", f"<h1>N{number}</h1>".encode()))
            assert document.title == f"N{number}"
            process = reader._process
    assert process is not None
    assert process.poll() is not None
    assert reader._process is None


@pytest.mark.parametrize(
    ("name", "library"),
    [("a.html", "selectolax"), ("a.pdf", "pypdfium2"), ("a.docx", "mammoth"), ("a.epub", "selectolax")],
)
def test_a_library_that_is_absent_where_files_are_parsed(
    tmp_path: Path, name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / f"{library}.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path / "first")
    data = {
        "a.html": b"<p>text",
        "a.pdf": made_files.pdf([["text"]]),
        "a.docx": made_files.docx([("", "text")]),
        "a.epub": made_files.epub(["<p>text</p>"]),
    }
    with pytest.raises(MissingExtraError, match=r"pip install 'lightretriever\[documents\]'"):
        list(read_file(found(tmp_path, name, data[name])))


def test_word_lists_and_tables(tmp_path: Path) -> None:
    def paragraph(text: str, more: str = "") -> str:
        return f"<w:p><w:pPr>{more}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"

    item = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>'
    row = "".join(
        f"<w:tr>{''.join(f'<w:tc>{paragraph(cell)}</w:tc>' for cell in cells)}</w:tr>" for cells in ("ab", "cd")
    )
    gone = "<w:p><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del></w:p>"
    body = paragraph("one", item) + paragraph("two", item) + f"<w:tbl>{row}</w:tbl>" + gone + paragraph("# end")
    xml = f'<w:document xmlns:w="{made_files.WORD}"><w:body>{body}</w:body></w:document>'
    numbering = (
        f'<w:numbering xmlns:w="{made_files.WORD}"><w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0">'
        '<w:numFmt w:val="bullet"/></w:lvl></w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
        "</w:numbering>"
    )
    parts = {"word/document.xml": xml, "word/numbering.xml": numbering}
    (document,) = read_file(found(tmp_path, "a.docx", made_files.docx([], extra=parts)))
    assert document.text == "- one\n- two\n\n| a | b |\n| --- | --- |\n| c | d |\n\n\\# end"
