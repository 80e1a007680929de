"""Names of several sources, so that no two files get one id: they depend on the sources alone, not on what is in them.

A file's id is its path within its source, "guide/start.md", as long as there is one source. Among several it starts
with the source's name, "docs/guide/start.md"; sources of one name get as many of the folders above them as tell them
apart, "one/docs/start.md" and "two/docs/start.md".
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightretriever.errors import InputError
from lightretriever.paths import absolute


@dataclass(frozen=True, slots=True)
class Source:
    """A file or folder, as given and where it really is, and what the ids of its files start with."""

    given: Path
    place: Path
    label: str
    is_folder: bool


def name_sources(given: Sequence[Path]) -> list[Source]:
    """The sources in their order, each place once, with their labels.

    Raises:
        InputError: one does not exist, or cannot be looked at.
        UsageError: one is no path.
    """
    places: dict[Path, Path] = {}
    for path in given:
        places.setdefault(_place(path), path)
    labels = _labels([*places])
    sources = []
    for place, path in places.items():
        is_folder = place.is_dir()
        sources.append(Source(path, place, "" if is_folder and len(places) == 1 else labels[place], is_folder))
    return sources


def plain_id(path: str) -> str:
    """A path as an id: with "/", and safe to write as UTF-8 whatever bytes a name consists of."""
    posix = path.replace(os.sep, "/")
    return posix if posix.isascii() else os.fsencode(posix).decode("utf-8", "backslashreplace")


def _place(path: Path) -> Path:
    try:
        return absolute(path).resolve(strict=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _labels(places: Sequence[Path]) -> dict[Path, str]:
    """For each place what its ids start with. A source within another has the ids that the other gives its files."""
    every = set(places)
    holder = {place: next((above for above in reversed(place.parents) if above in every), place) for place in places}
    labels = _distinct_ends(sorted(set(holder.values())))
    inner = {place: place.relative_to(outer).as_posix() for place, outer in holder.items() if place != outer}
    return {place: "/".join(filter(None, (labels[holder[place]], inner.get(place)))) for place in places}


def _distinct_ends(places: Sequence[Path]) -> dict[Path, str]:
    """For each place, none within another, the shortest end of its path that is no other's, nor another's start."""
    depth = dict.fromkeys(places, 1)
    while True:
        labels = {place: "/".join(place.parts[1:][-count:]) for place, count in depth.items()}
        longer = [place for place in _clashing(labels) if depth[place] < len(place.parts) - 1]
        if not longer:
            return labels
        for place in longer:
            depth[place] += 1


def _clashing(labels: dict[Path, str]) -> set[Path]:
    owners: dict[str, list[Path]] = {}
    for place, label in labels.items():
        owners.setdefault(label, []).append(place)
    clashing: set[Path] = set()
    for place, label in labels.items():
        steps = label.split("/")
        for end in range(1, len(steps) + 1):
            others = [other for other in owners.get("/".join(steps[:end]), ()) if other != place]
            if others:
                clashing.update(others, [place])
    return clashing
