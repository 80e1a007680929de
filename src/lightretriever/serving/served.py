"""What is open: an index, query tables by name, or both; changed for what is there now without a request noticing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from lightretriever.errors import UsageError
from lightretriever.paths import absolute
from lightretriever.query.encoder import QueryEncoder
from lightretriever.serving.http.errors import Refused
from lightretriever.serving.settings import ServeOptions

if TYPE_CHECKING:
    from lightretriever.index.index import Index
    from lightretriever.index.settings import Settings
    from lightretriever.serving.tower.remote import TowerLink

DATABASE = "index.db"
_MOMENT = 0.1  # seconds


@dataclass(slots=True, eq=False)
class Opened:
    """What was opened together. It is closed when it was replaced and nobody uses it any more.

    Attributes:
        index: None where tables alone are served.
        tables: query encoders, by the names that clients give, the first being the default.
        aliases: names of their models, where these tell them apart.
        users: requests that use it.
        retired: whether something else took its place.
    """

    index: Index | None
    tables: Mapping[str, QueryEncoder]
    own: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    users: int = 0
    retired: bool = False
    _look: tuple[QueryEncoder, Settings] | None = None
    _looked: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """What clients may ask for, the default first."""
        return (self.own, *(name for name in self.tables if name != self.own))

    def encoder(self, name: str | None) -> tuple[str, QueryEncoder]:
        """The encoder of a name, and the name that it is listed under. Raises Refused: there is none (404)."""
        wanted = name or self.own
        wanted = self.aliases.get(wanted, wanted)
        if wanted == self.own and self.index is not None:
            return wanted, self.look(self.index)[0]
        if wanted not in self.tables:
            there = ", ".join(self.names)
            raise Refused(404, f"there is no model {wanted[:80]!r} here: ask for one of {there}", "model")
        return wanted, self.tables[wanted]

    def look(self, index: Index) -> tuple[QueryEncoder, Settings]:
        """The index's encoder and settings as they are, or were a moment ago: to ask its database takes longer than to
        encode a query."""
        now = monotonic()
        if self._look is None or now - self._looked > _MOMENT:
            self._look, self._looked = (index.encoder, index.settings), now
        return self._look

    def needs_index(self) -> Index:
        """The index. Raises Refused where tables alone are served (404)."""
        if self.index is None:
            raise Refused(404, "embeddings alone are served here: start the server with an index to search")
        return self.index

    def close(self) -> None:
        """Let go of it."""
        if self.index is not None:
            self.index.close()


class Served:
    """What is served now; threads may share it.

    Args:
        options: what to open.
        tower: the way to the document model; None where there is none.
    """

    def __init__(self, options: ServeOptions, tower: TowerLink | None = None) -> None:
        self._options = options
        self._tower = tower
        self._lock = threading.Lock()
        self._now = open_all(options, tower)

    @property
    def now(self) -> Opened:
        """What is open, for a look that does not wait."""
        return self._now

    @contextmanager
    def use(self) -> Iterator[Opened]:
        """What is open, which stays so until the block ends."""
        with self._lock:
            opened = self._now
            opened.users += 1
        try:
            yield opened
        finally:
            with self._lock:
                opened.users -= 1
                last = opened.retired and not opened.users
            if last:
                opened.close()

    def reload(self) -> None:
        """Open again what the options name, and serve that from here on. What cannot be opened changes nothing.

        Raises:
            LightRetrieverError: as opening does.
        """
        opened = open_all(self._options, self._tower)
        with self._lock:
            before, self._now = self._now, opened
            before.retired = True
            last = not before.users
        if last:
            before.close()

    def close(self) -> None:
        """Let go of all."""
        self._now.close()


def open_all(options: ServeOptions, tower: TowerLink | None = None) -> Opened:
    """Open an index or tables.

    Raises:
        ArtifactError: one is absent or damaged.
        UsageError: two tables have one name.
    """
    options.check_path()
    path = options.path.resolve()  # a link may be led elsewhere while what it led to is still served
    tables = {name: QueryEncoder.load(folder.resolve()) for name, folder in options.tables}
    if len(tables) < len(options.tables):
        raise UsageError("two tables have one name: give each --table NAME=TABLE a name of its own")
    own = absolute(options.path).stem
    if own in tables:
        raise UsageError(f"{options.path} and a --table have the name {own!r}: give the table another")
    index: Index | None = None
    if (path / DATABASE).exists():
        from lightretriever.index.index import Index  # compiled searches, which embeddings do without

        index = Index.open(path)
        own_encoder = index.encoder
        if tower is not None:
            from lightretriever.serving.tower.remote import RemoteTower

            index.model = RemoteTower(tower, own_encoder.table.tokenizer)  # type: ignore[assignment]
    else:
        own_encoder = QueryEncoder.load(path)
    encoders = {own: own_encoder, **tables}
    return Opened(index, encoders, own, _aliases(encoders))


def _aliases(encoders: Mapping[str, QueryEncoder]) -> dict[str, str]:
    """Names of models, whole and without their owner, where one table alone is of it."""
    found: dict[str, list[str]] = {}
    for name, encoder in encoders.items():
        model = encoder.table.model
        for alias in {model, model.rpartition("/")[2]} - {""}:
            found.setdefault(alias, []).append(name)
    return {alias: names[0] for alias, names in found.items() if len(names) == 1 and alias not in encoders}
