"""Which columns of a table of documents and vectors hold what: by their usual names, or as the user says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields

from lightretriever.errors import InputError, UsageError

# The first of the first tuple that is there, as in a corpus; of the others only one may be there.
ID_NAMES = (("_id", "id"), ("docid", "doc_id", "document_id", "uuid"))
TEXT_NAMES = (("text",), ("content", "contents", "body", "passage", "document", "page_content", "chunk"))
TITLE_NAMES = (("title",), ())
VECTOR_NAMES = ((), ("vector", "vectors", "embedding", "embeddings", "emb", "dense"))
GENERAL_NAMES = ((), ("values",))
"""Of vectors too, where none of the others is there; of much else besides."""

KNOWN_NAMES = tuple(
    name for names in (ID_NAMES, TEXT_NAMES, TITLE_NAMES, VECTOR_NAMES) for some in names for name in some
)
"""Names by which a table shows what is between its columns."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns; None: whichever of the usual names is there.

    Attributes:
        id, text, title: of the document's. Where a file has no title, there is none.
        vector: of its vector.
    """

    id: str | None = None
    text: str | None = None
    title: str | None = None
    vector: str | None = None

    @staticmethod
    def parse(text: str) -> Columns:
        """What ``id=NAME,text=NAME,title=NAME,vector=NAME`` says, any of them.

        Raises:
            UsageError: another word before a "=", or no name after it.
        """
        known = [field.name for field in fields(Columns)]
        named: dict[str, str] = {}
        for part in text.split(","):
            what, _, name = (word.strip() for word in part.partition("="))
            if what not in known or not name or what in named:
                raise UsageError(
                    f"columns {text!r}: give {', '.join(f'{word}=NAME' for word in known)}, or some of them"
                )
            named[what] = name
        return Columns(**named)

    def among(self, names: Sequence[str], vectors: Collection[str], source: object) -> Columns:
        """The columns of one file.

        Args:
            names: all that it has.
            vectors: those of them that can be the vector by what they hold; which is told by their names.
            source: the file, for messages.

        Returns:
            Every name that is there; None for what the file does not hold.

        Raises:
            UsageError: a name given that the file does not have; two columns either of which could be meant.
            InputError: two columns of one name.
        """
        doubled = next((name for name in names if names.count(name) > 1), None)
        if doubled is not None:
            raise InputError(f"{source} has two columns {doubled!r}: rename one of them")
        vector = self.vector or next(
            filter(None, (_usual("vector", usual, vectors, source) for usual in (VECTOR_NAMES, GENERAL_NAMES))), None
        )
        others = [name for name in names if name not in vectors and name != vector]
        found = Columns(
            self.id or _usual("id", ID_NAMES, others, source),
            self.text or _usual("text", TEXT_NAMES, others, source),
            self.title or _usual("title", TITLE_NAMES, others, source),
            vector,
        )
        for what, name in (("id", self.id), ("text", self.text), ("title", self.title), ("vector", self.vector)):
            if name is not None and name not in names:
                raise UsageError(f"{source} has no column {name!r} for {what}: it has {', '.join(map(repr, names))}")
        return found


def usual_names() -> str:
    """The usual names of ids and vectors, for messages."""
    ids, vectors = [*ID_NAMES[0], *ID_NAMES[1]], VECTOR_NAMES[1]
    return f"an id ({', '.join(ids)}) and a vector ({', '.join(vectors)})"


def is_vector_name(name: str) -> bool:
    """Whether it is a usual name of vectors, and of hardly anything else."""
    return name.strip().lower() in VECTOR_NAMES[1]


def is_general_name(name: str) -> bool:
    """Whether vectors are often named so, and other things as often."""
    return name.strip().lower() in GENERAL_NAMES[1]


def _usual(what: str, usual: tuple[Sequence[str], Sequence[str]], names: Collection[str], source: object) -> str | None:
    for name in usual[0]:
        if name in names:
            return name
    there = [name for name in names if name.strip().lower() in (*usual[0], *usual[1])]
    if len(there) > 1:
        raise _ambiguous(what, there, source)
    return there[0] if there else None


def _ambiguous(what: str, names: Sequence[str], source: object) -> UsageError:
    return UsageError(
        f"{source}: each of the columns {', '.join(map(repr, names))} could be the {what}: "
        f"say which it is with --columns {what}=NAME"
    )
