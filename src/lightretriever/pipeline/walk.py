"""The files of folders as their owners see them: what git ignores, and what tools install or build, is left out.

Everything left out is told with its reason; a folder left out is told once. Symbolic links are not followed: what one
points to is found at its own place, or lies outside the source.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lightretriever.pipeline.ignore import IGNORE_FILE, Ignores, ignored, ignores_above, patterns, read_ignores
from lightretriever.pipeline.sources import Source, name_sources, plain_id
from lightretriever.text.corpus import MAX_ID_BYTES

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_DEPENDENCIES = {"node_modules", "bower_components", "jspm_packages", "site-packages", "dist-packages"}
_DEPENDENCIES |= {"__pypackages__", "venv", ".venv", "virtualenv"}
_DEPENDENCY_ENDS = (".dist-info", ".egg-info")
_CACHES = {"__pycache__", "_build", "CMakeFiles", "DerivedData"}
_OUTPUTS = {"build", "dist", "target", "out"}  # a folder of documents may have these names, unless a build is there
_BUILDS = {"pyproject.toml", "setup.py", "package.json", "Cargo.toml", "pom.xml", "CMakeLists.txt", "Makefile"}
_BUILDS |= {"build.gradle", "build.gradle.kts", "build.sbt", "meson.build", "conf.py"}
_NO_DOCUMENTS = frozenset(
    # images, sound, film, fonts
    "png jpg jpeg jpe gif bmp ico icns webp avif heic tif tiff psd ai eps svg svgz raw mp3 wav flac ogg oga opus m4a "
    "aac wma mid mp4 m4v mkv webm avi mov wmv mpg mpeg ogv flv ttf otf woff woff2 eot "
    # archives and disk images
    "zip tar gz tgz bz2 tbz2 xz txz zst 7z rar lz4 br jar war whl egg deb rpm dmg iso img apk "
    # programs and what compilers leave
    "exe dll so dylib a o obj lib class pyc pyo pyd wasm elc node bin "
    # numbers, models and databases
    "npy npz pt pth ckpt safetensors onnx gguf h5 hdf5 pkl pickle parquet feather arrow db sqlite sqlite3 sqlite-wal "
    "sqlite-shm db-wal db-shm mo pack idx map lock".split()
)


class Reason(StrEnum):
    """Why a file or folder is left out."""

    HIDDEN = "hidden"
    IGNORED = "in .gitignore"
    DEPENDENCIES = "dependencies"
    BUILT = "built or cached"
    INDEX = "an index"
    EXCLUDED = "excluded"
    NOT_INCLUDED = "not included"
    NO_DOCUMENT = "not a document"
    EMPTY = "empty"
    LINK = "symbolic link"
    SPECIAL = "not a file"
    UNREADABLE = "unreadable"
    LONG_NAME = "path too long"
    TWICE = "given twice"


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """Which files of a folder are documents. A file that is a source itself is one, whatever these say.

    Attributes:
        include: patterns as in ``.gitignore`` (``*.md``, ``guides/**``), of paths in the source: none other is read.
        exclude: patterns of what to leave out.
        hidden: names that start with "." too.
        gitignore: leave out what ``.gitignore`` files say, those above the source within its repository included.
        dependencies: folders of installed packages, of caches and of builds too.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    gitignore: bool = True
    dependencies: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read.

    Attributes:
        path: where it is, to open it; as the user wrote its source, to show it.
        id: its path within its source, with "/"; `lightretriever.pipeline.sources` says what several sources add.
        size: its bytes.
        mtime: when it was last changed, in nanoseconds since 1970.
    """

    path: Path
    id: str
    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is passed over, and why."""

    path: Path
    reason: Reason


def walk(sources: Sequence[Path], options: WalkOptions = WalkOptions()) -> Iterator[Found | LeftOut]:
    """Every file of the sources, in their order, within a folder sorted by name, and whatever is left out.

    Args:
        sources: files and folders.
        options: what to leave out.

    Raises:
        InputError: a source does not exist, or a pattern is none; at once.
        UsageError: a source is no path; at once.
        MissingExtraError: there are patterns or a ``.gitignore``, and no ``pathspec``.
    """
    named = name_sources(sources)
    rules = _Rules(options, patterns(options.include, "include"), patterns(options.exclude, "exclude"))
    steps = chain.from_iterable(_of_source(source, rules) for source in named)
    return _once(steps) if len(named) > 1 else steps


@dataclass(frozen=True, slots=True)
class _Rules:
    options: WalkOptions
    include: GitIgnoreSpec | None
    exclude: GitIgnoreSpec | None


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to go into: where it is, its path within the source (ending in "/"), and what is ignored above it."""

    place: str
    inner: str
    ignores: tuple[Ignores, ...]


def _once(steps: Iterator[Found | LeftOut]) -> Iterator[Found | LeftOut]:
    """Each file once: one source may lie in another."""
    told: set[str] = set()
    for step in steps:
        if isinstance(step, Found):
            place = os.path.realpath(step.path)
            if place in told:
                yield LeftOut(step.path, Reason.TWICE)
                continue
            told.add(place)
        yield step


def _of_source(source: Source, rules: _Rules) -> Iterator[Found | LeftOut]:
    if not source.is_folder:
        yield _looked_at(source.given, source.label, str(source.place))
        return
    above = tuple(ignores_above(source.place)) if rules.options.gitignore else ()
    # A stack in place of recursion: folders may be nested deeper than calls.
    stack = [_entries(source, _Folder(str(source.place), "", above), rules)]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
        elif isinstance(step, _Folder):
            stack.append(_entries(source, step, rules))
        else:
            yield step


def _entries(source: Source, folder: _Folder, rules: _Rules) -> Iterator[Found | LeftOut | _Folder]:
    try:
        with os.scandir(folder.place) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError:
        yield LeftOut(source.given / folder.inner, Reason.UNREADABLE)
        return
    names = {entry.name for entry in entries}
    ignores = folder.ignores
    if rules.options.gitignore and IGNORE_FILE in names:
        own = read_ignores(folder.place)
        ignores = ignores if own is None else (*ignores, own)
    for entry in entries:
        inner = folder.inner + entry.name
        reason = _reason(entry, inner, names, ignores, rules)
        if reason is not None:
            yield LeftOut(source.given / inner, reason)
        elif entry.is_dir(follow_symlinks=False):
            yield _Folder(entry.path, inner + "/", ignores)
        else:
            label = f"{source.label}/{inner}" if source.label else inner
            yield _looked_at(source.given / inner, label, entry.path)


def _reason(
    entry: os.DirEntry[str], inner: str, beside: set[str], ignores: Sequence[Ignores], rules: _Rules
) -> Reason | None:
    """Why an entry of a folder is left out by its name; None where it is not."""
    name, options = entry.name, rules.options
    if entry.is_symlink():
        return Reason.LINK
    is_folder = entry.is_dir(follow_symlinks=False)
    if name == ".git" or (name.startswith(".") and not options.hidden):
        return Reason.HIDDEN
    made = _made_by_tools(entry.path, name, beside) if is_folder else None
    if made is Reason.INDEX or (made and not options.dependencies):
        return made
    path = inner + "/" if is_folder else inner
    if rules.exclude is not None and rules.exclude.match_file(path):
        return Reason.EXCLUDED
    if ignores and ignored(ignores, entry.path, is_folder):
        return Reason.IGNORED
    if not is_folder and rules.include is not None:
        return None if rules.include.match_file(path) else Reason.NOT_INCLUDED
    if not is_folder and name.rpartition(".")[2].lower() in _NO_DOCUMENTS:
        return Reason.NO_DOCUMENT
    return None


def _made_by_tools(place: str, name: str, beside: set[str]) -> Reason | None:
    if name in _DEPENDENCIES or name.endswith(_DEPENDENCY_ENDS) or os.path.lexists(f"{place}/pyvenv.cfg"):
        return Reason.DEPENDENCIES
    if name in _CACHES or (name in _OUTPUTS and not _BUILDS.isdisjoint(beside)):
        return Reason.BUILT
    if os.path.lexists(f"{place}/CACHEDIR.TAG"):  # by which tools of all kinds mark what backups need not hold
        return Reason.BUILT
    if os.path.lexists(f"{place}/index.db") and os.path.lexists(f"{place}/table"):
        return Reason.INDEX
    return None


def _looked_at(shown: Path, label: str, place: str) -> Found | LeftOut:
    try:
        status = os.stat(place)  # noqa: PTH116 - of ten thousand files, making paths takes longer
    except OSError:
        return LeftOut(shown, Reason.UNREADABLE)
    if not stat.S_ISREG(status.st_mode):
        return LeftOut(shown, Reason.SPECIAL)
    if not status.st_size:
        return LeftOut(shown, Reason.EMPTY)
    identifier = plain_id(label)
    if len(identifier.encode()) > MAX_ID_BYTES:
        return LeftOut(shown, Reason.LONG_NAME)
    return Found(shown, identifier, status.st_size, status.st_mtime_ns)
