"""The compiled form of `ChunkTokenizer`: a batch of texts as bytes in one pass, chunks found by hashing.

What it knows it learned from `ChunkTokenizer.learn`, so its ids too are those of ``tokenizers``. Keys are compared
byte by byte: a hash collision costs time, never a wrong id.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightretriever.compiled import compiled
from lightretriever.text.memo import MEMO_LIMIT

if TYPE_CHECKING:
    from lightretriever.text.memo import ChunkIds, ChunkTokenizer

THREADS = min(4, os.cpu_count() or 1)
TEXTS_PER_THREAD = 1024
MISSES = 1 << 16  # new chunks that one pass can report; the next pass finds the rest
LATER, FIRST = 0, 1  # where a chunk stands
DONE, AGAIN, WHOLE = 0, 1, 2  # a text's state: ids written, holds a new chunk, only tokenizers can tell
UNUSABLE = -1  # in place of a number of ids: a text with this chunk is WHOLE


class Scanner:
    """Scans batches for one `ChunkTokenizer`; one caller at a time.

    Args:
        chunks: learns new chunks and tokenises whole texts.
        cjk: CJK ideographs stand alone.
        words: extra spaces mean nothing, and a first chunk is like any other.
        alone: ASCII characters that stand alone; only with ``words``.
    """

    def __init__(self, chunks: ChunkTokenizer, *, cjk: bool, words: bool, alone: bytes) -> None:
        self._chunks, self._cjk, self._words = chunks, cjk, words
        self._alone = np.isin(np.arange(256), list(alone))
        self._clear()

    def _clear(self) -> None:
        self._entries = 0
        self._slots = np.full(1 << 12, -1, dtype=np.int32)  # hash table of entry numbers, at most half full
        self._hashes = np.zeros(1 << 11, dtype=np.uint64)
        self._spans = np.zeros((1 << 11, 4), dtype=np.int64)  # key start, key length, ids start, number of ids
        self._keys = np.zeros(1 << 15, dtype=np.uint8)
        self._ids = np.zeros(1 << 13, dtype=np.int32)
        self._keys_used = self._ids_used = 0

    def flat_ids(self, texts: Sequence[str], leading_space: bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """As `ChunkTokenizer.flat_ids`."""
        parts = max(1, min(THREADS, len(texts) // TEXTS_PER_THREAD))
        bounds = [len(texts) * i // parts for i in range(parts + 1)]
        data = [_joined(texts[start:end]) for start, end in pairwise(bounds)]
        sizes = np.diff(bounds)
        if self._entries >= MEMO_LIMIT:
            self._clear()
        # Threads are of this call: a process that is forked has a copy of everything but threads.
        with ThreadPoolExecutor(parts) if parts > 1 else nullcontext() as threads:
            each = map if threads is None else threads.map

            def scan(part: int):  # type: ignore[no-untyped-def]
                return self._scan(data[part], int(sizes[part]), leading_space)

            while True:
                results = list(each(scan, range(parts)))
                missed = [(part, chunk) for part, result in enumerate(results) for chunk in result[3]]
                if not missed or self._entries >= MEMO_LIMIT:
                    break
                self._learn({(data[part][start : start + n].tobytes(), at) for part, (start, n, at) in missed})
        ids = np.concatenate([result[0] for result in results]) if parts > 1 else results[0][0]
        lengths = np.concatenate([result[1] for result in results])
        whole = np.flatnonzero(np.concatenate([result[2] for result in results]) != DONE)
        if len(whole):
            rows = self._chunks.plain_batch([texts[i] for i in whole.tolist()], leading_space)
            lengths[whole] = [len(row) for row in rows]
            from_rows = np.repeat(np.isin(np.arange(len(texts)), whole), lengths)
            merged = np.empty(len(from_rows), dtype=np.int32)
            merged[~from_rows] = ids
            merged[from_rows] = [i for row in rows for i in row]
            ids = merged
        return ids, np.concatenate([[0], np.cumsum(lengths)])

    def _scan(self, data: NDArray[np.uint8], n: int, leading_space: bool):  # type: ignore[no-untyped-def]
        """One pass over n joined texts: ids, lengths, states, and the new chunks as (start, length, place)."""
        ids = np.empty(2 * len(data) + 64, dtype=np.int32)
        lengths, states = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.uint8)
        misses = np.empty((min(MISSES, len(data) + 1), 3), dtype=np.int64)
        known = (self._slots, self._hashes, self._spans, self._keys, self._ids)
        first = LATER if leading_space or self._words else FIRST
        used, missed = scan_texts(
            data, first, self._words, self._cjk, self._alone, *known, ids, lengths, states, misses
        )
        return ids[:used], lengths, states, misses[:missed].tolist()

    def _learn(self, keys: set[tuple[bytes, int]]) -> None:
        for place in (LATER, FIRST):
            chunks = sorted(key for key, at in keys if at == place)
            if chunks:
                self._insert(chunks, place, self._chunks.learn([chunk.decode() for chunk in chunks], place == LATER))

    def _insert(self, chunks: Sequence[bytes], place: int, learned: Sequence[ChunkIds]) -> None:
        # More than two ids a byte would overrun the scan's output; no tokenizer does that to plain text.
        fits = zip(chunks, learned, strict=True)
        rows = [None if ids is False or len(ids) > 2 * len(chunk) else ids for chunk, ids in fits]
        lengths = np.fromiter(map(len, chunks), np.int64, len(chunks))
        counts = np.fromiter((UNUSABLE if row is None else len(row) for row in rows), np.int64, len(rows))
        ends, id_ends = self._keys_used + np.cumsum(lengths), self._ids_used + np.cumsum(np.maximum(counts, 0))
        first, last = self._entries, self._entries + len(chunks)
        self._keys, self._ids = _with_room(self._keys, int(ends[-1])), _with_room(self._ids, int(id_ends[-1]))
        self._hashes, self._spans = _with_room(self._hashes, last), _with_room(self._spans, last)
        self._keys[self._keys_used : ends[-1]] = np.frombuffer(b"".join(chunks), np.uint8)
        self._ids[self._ids_used : id_ends[-1]] = [i for row in rows if row is not None for i in row]
        places = (ends - lengths, lengths, id_ends - np.maximum(counts, 0), counts)
        self._spans[first:last] = np.stack(places, axis=1)
        hash_chunks(self._keys, self._spans, first, last, place, self._hashes)
        self._entries, self._keys_used, self._ids_used = last, int(ends[-1]), int(id_ends[-1])
        if 2 * last > len(self._slots):
            while 2 * last > len(self._slots):
                self._slots = np.full(2 * len(self._slots), -1, dtype=np.int32)
            first = 0
        fill_slots(self._slots, self._hashes, first, last)


def _joined(texts: Sequence[str]) -> NDArray[np.uint8]:
    """UTF-8 of the texts with a newline after each; a text that cannot be joined so becomes one that is WHOLE."""
    joined = "\n".join(texts) + "\n"
    if joined.count("\n") != len(texts) or not _encodable(joined):
        joined = "\n".join("\0" if "\n" in text or not _encodable(text) else text for text in texts) + "\n"
    return np.frombuffer(joined.encode(), dtype=np.uint8)


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_room(array: np.ndarray, size: int) -> np.ndarray:
    """The array, or a copy of twice its length where ``size`` does not fit."""
    if size <= len(array):
        return array
    larger = np.zeros((max(size, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


@compiled(inline=True)
def hash_chunk(data, start, end, place):  # type: ignore[no-untyped-def]
    """64-bit FNV-1a of bytes start … end - 1 and the chunk's place, with the high bits folded in."""
    value = np.uint64(0xCBF29CE484222325) + np.uint64(place)
    for i in range(start, end):
        value = (value ^ np.uint64(data[i])) * np.uint64(0x100000001B3)
    return value ^ (value >> np.uint64(29))


@compiled()
def hash_chunks(keys, spans, start, end, place, hashes):  # type: ignore[no-untyped-def]
    """Of entries start … end - 1."""
    for entry in range(start, end):
        begin = spans[entry, 0]
        hashes[entry] = hash_chunk(keys, begin, begin + spans[entry, 1], place)


@compiled()
def fill_slots(slots, hashes, start, end):  # type: ignore[no-untyped-def]
    """Enter entries start … end - 1 into the hash table, by linear probing."""
    mask = np.uint64(len(slots) - 1)
    for entry in range(start, end):
        slot = hashes[entry] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = entry


@compiled(inline=True)
def find_chunk(data, start, end, place, slots, hashes, spans, keys):  # type: ignore[no-untyped-def]
    """Entry of the chunk at bytes start … end - 1, or -1."""
    value = hash_chunk(data, start, end, place)
    mask = np.uint64(len(slots) - 1)
    slot = value & mask
    while slots[slot] >= 0:
        entry = slots[slot]
        if hashes[entry] == value and spans[entry, 1] == end - start:
            key, same = spans[entry, 0], True
            for i in range(end - start):
                if data[start + i] != keys[key + i]:
                    same = False
                    break
            if same:
                return entry
        slot = (slot + np.uint64(1)) & mask
    return -1


@compiled(inline=True)
def is_cjk(data, i):  # type: ignore[no-untyped-def]
    """Whether a three-byte character at i is in U+3400–4DBF, 4E00–9FFF or F900–FAFF."""
    if data[i] < 0xE3 or data[i] > 0xEF:
        return False
    code = ((data[i] & 0x0F) << 12) | ((data[i + 1] & 0x3F) << 6) | (data[i + 2] & 0x3F)
    return 0x3400 <= code <= 0x4DBF or 0x4E00 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF


@compiled()
def scan_texts(  # type: ignore[no-untyped-def]
    data, first, words, cjk, alone, slots, hashes, spans, keys, known_ids, ids, lengths, states, misses
):
    """Tokenise newline-terminated texts from known chunks; see `Scanner._scan`. Returns ids and misses written."""
    used = missed = text = position = 0
    while position < len(data):
        place, begin, state = first, used, DONE
        while True:
            start = position
            if cjk and is_cjk(data, position):
                position += 3
            elif alone[data[position]]:
                position += 1
            else:
                while data[position] > 32 and data[position] != 127:
                    if alone[data[position]] or (cjk and is_cjk(data, position)):
                        break
                    position += 1
            stop = data[position]
            if (stop < 32 or stop == 127) and stop != 10:
                state = WHOLE
                position += 1
                continue
            if position > start:
                entry = find_chunk(data, start, position, place, slots, hashes, spans, keys)
                if entry < 0:
                    if state == DONE:
                        state = AGAIN
                    if missed < len(misses):
                        misses[missed, 0], misses[missed, 1], misses[missed, 2] = (
                            start,
                            position - start,
                            place,
                        )
                        missed += 1
                elif spans[entry, 3] == UNUSABLE:
                    state = WHOLE
                elif state == DONE:
                    source = spans[entry, 2]
                    for i in range(spans[entry, 3]):
                        ids[used + i] = known_ids[source + i]
                    used += spans[entry, 3]
            elif not words:
                state = WHOLE  # a space at the start, at the end or beside another; or no text at all
            place = LATER
            if stop == 10:
                position += 1
                break
            if stop == 32:
                position += 1
                if data[position] == 10 and not words:
                    state = WHOLE
        if state != DONE:
            used = begin
        lengths[text], states[text] = used - begin, state
        text += 1
    return used, missed
