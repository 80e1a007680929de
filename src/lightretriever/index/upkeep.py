"""What keeps an index fast and current while it is used: its graph, its statistics, its table, its document model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from lightretriever.errors import UsageError
from lightretriever.index.background import Background
from lightretriever.index.folder import next_part
from lightretriever.index.plans import fresh_statistics, other_model, same_points
from lightretriever.index.rebuild import Progress, Rebuild
from lightretriever.index.state import State
from lightretriever.query.encoder import QueryEncoder
from lightretriever.query.table import TokenTable
from lightretriever.vectors.encode import Tower

OPTIMISE_DOCUMENTS, OPTIMISE_SHARE = 5_000, 0.05
"""A live index builds its graph anew when so many documents, and such a share, were written since it was built."""


class Upkeep:
    """Of one open index. One piece of work at a time; in a live index searches and writes go on beside it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._background = Background()
        self._tried = 0  # written when the graph was last begun to be built

    @property
    def said(self) -> str:
        """What runs in the background, or how the last of it failed; "" when all is well."""
        return self._background.said

    def optimise(self, wait: bool = True) -> None:
        """Build the graph anew, over all documents. Searches are right without it, and slower the more were written.

        In a live index it is built beside the engine that answers, and takes its place; without ``wait`` this returns
        at once, and `wait` tells how it went. In another it is built in place, and everything waits.

        Raises:
            UsageError: other such work is under way.
            ArtifactError: the engine failed, or the disk is full; the index is as it was.
        """
        state = self._state
        if state.live:
            self._background.run("optimising", Rebuild(state, same_points), wait)
            return
        with state.writing:
            state.current.backend.optimise()
            state.save(replace(state.current.manifest, unoptimised=0))
            state.durability.flush()

    def optimise_if_due(self) -> None:
        """In a live index, when enough was written since the graph was built, or since the last attempt to; with BM25
        statistics taken anew if they are stale."""
        state = self._state
        manifest = state.current.manifest
        written = manifest.unoptimised
        self._tried = self._tried if self._tried <= written else 0  # it went well since
        if not state.live or self._background.running or written < self._tried + OPTIMISE_DOCUMENTS:
            return
        count = state.read(lambda current: current.backend.count())
        if written >= self._tried + OPTIMISE_SHARE * count:
            self._tried = written
            side = state.current.side
            with suppress(UsageError):  # another thread was quicker
                if side.kind == "bm25" and side.info(manifest.bm25_changes, count)["stale"]:
                    self.refresh_bm25(wait=False)
                else:
                    self.optimise(wait=False)

    def refresh_bm25(self, wait: bool = True, queue: bool = False) -> None:
        """Take the BM25 statistics anew from the stored texts, and every document's impacts with them, in a copy that
        then takes the index's place; ``wait`` as for `optimise`, and ``queue`` waits for other work first.

        Raises:
            UsageError: the index's sparse side is not BM25.
        """
        kind = self._state.current.side.kind
        if kind != "bm25":
            raise UsageError(f"the sparse side of {self._state.path} is {kind!r}: there is nothing to refresh")
        self._background.run("refreshing BM25", Rebuild(self._state, fresh_statistics), wait, queue=queue)

    def set_table(self, table: TokenTable) -> None:
        """Replace the token table by another of the same model, at once and durably, while searches go on.

        Raises:
            MismatchError: it is of another model, tokenizer or dimension; both are named.
            ArtifactError: it is damaged, or the disk is full.
        """
        state = self._state
        with state.writing:
            current = state.current
            current.manifest.check_successor(table, "the new table", current.encoder.table)
            name = next_part(state.path, current.manifest, "table")
            table.save(state.path / name)
            manifest = replace(current.manifest, table=name, table_hash=table.hash, tokens_added=0, tokens_new=0)
            old = state.go_over(manifest, QueryEncoder(TokenTable.load(state.path / name)), current.backend)
        state.put_away(old)

    def reindex(
        self,
        encoder: QueryEncoder,
        tower: Tower,
        sparse: str | None,
        wait: bool,
        progress: Progress | None,
        done: Callable[[], None],
    ) -> None:
        """Encode every document anew, from its stored text, and go over to another document model when all are.

        Until then the index answers with the old vectors, marked stale, and takes writes. Interrupted, the same call
        goes on; a call for another model begins anew.

        Args:
            encoder: the query encoder over a table of the new model.
            tower: the new document tower.
            sparse: the sparse side of the new index; None keeps the kind.
            wait: as for `optimise`.
            progress: called with the number of documents seen and of all.
            done: called when it is the index's model, before any writer finds it so.

        Raises:
            MismatchError: table and model do not belong together.
            UsageError: sparse="lm" with a tower that has no LM head, or other such work is under way.
            InputError: a document was stored without a text, and is named.
        """
        kind = sparse or self._state.current.manifest.sparse
        plan = partial(other_model, encoder=encoder, tower=tower, sparse=kind)
        self._background.run("reindexing", Rebuild(self._state, plan, progress, done), wait)

    def wait(self) -> None:
        """Wait for what runs in the background. Raises what it failed with."""
        self._background.wait()

    def stop(self) -> None:
        """End what runs in the background, done or not."""
        self._background.stop()
