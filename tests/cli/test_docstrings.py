"""The demonstration's corpus: Python's own docstrings, parsed and never run."""

from __future__ import annotations

import sys
import sysconfig

from lightretriever.cli.docstrings import standard_library_docstrings


def test_there_are_thousands_and_they_are_what_they_say() -> None:
    sysconfig.get_paths()  # loads a module of its own
    loaded = set(sys.modules)
    documents = {document.id: document for document in standard_library_docstrings()}
    assert {name.partition(".")[0] for name in set(sys.modules) - loaded} <= {"encodings"}  # of old source files
    assert len(documents) >= 3000
    assert all(document.text.strip() and document.title for document in documents.values())
    reader = documents["csv.DictReader"] if "csv.DictReader" in documents else documents["csv.Sniffer"]
    assert reader.metadata == {"kind": "class"}
    assert documents["shutil.copytree"].title.startswith("shutil.copytree(src, dst, ")
    assert documents["shutil.copytree"].text.startswith("Recursively copy a directory tree")
    assert documents["json"].metadata == {"kind": "module"}
    assert "argparse.ArgumentParser" in documents
    assert not any(name.split(".")[0] in ("test", "idlelib") or ".tests." in name for name in documents)
