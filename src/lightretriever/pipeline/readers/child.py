"""The process that parses files, its memory bounded by the system; `reader` ends it when a file takes too long.

An empty line says that it is ready. Then come lines of JSON: ``{"path", "format"}`` asks for a file; ``{"text",
"title", "metadata"}`` answers for each of its documents, ``{"error"}`` for one that cannot be read, ``{"end"}`` comes
last.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from lightretriever.errors import MissingExtraError
from lightretriever.pipeline.readers.content import Content, ReadOptions, UnreadableError
from lightretriever.pipeline.readers.formats import contents_of


def main() -> None:
    """Serve until standard input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints is no answer
    options = ReadOptions(**json.loads(sys.argv[1]))
    _limit("RLIMIT_AS", options.max_memory)
    _limit("RLIMIT_CORE", 0)
    out.write("\n")  # all is loaded: from now on it is the files that take time
    out.flush()
    for line in sys.stdin:
        asked = json.loads(line)
        for answer in _answers(Path(asked["path"]), asked["format"], options):
            out.write(json.dumps(answer) + "\n")
            out.flush()


def _answers(path: Path, name: str, options: ReadOptions) -> Iterator[dict[str, object]]:
    try:
        for content in contents_of(path, name, options):
            yield asdict(content) if isinstance(content, Content) else {"error": str(content)}
        yield {"end": True}
    except UnreadableError as error:
        yield {"error": str(error), "end": True}
    except MissingExtraError as error:
        what, extra = error.__reduce__()[1]
        yield {"missing": [what, extra], "end": True}
    except OSError as error:
        yield {"error": f"it cannot be read: {error.strerror or type(error).__name__}", "end": True}
    except MemoryError:
        yield {"error": f"it takes more than {options.max_memory >> 20:,} MB of memory (max_memory)", "end": True}
    except Exception as error:  # whatever a library raises: the run goes on without the file
        yield {"error": f"it is damaged, or its reader failed ({type(error).__name__})", "end": True}


def _limit(name: str, most: int) -> None:
    # Not every system has every limit: macOS none of address space, Windows none at all. The time is bounded there too.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        what = getattr(resource, name)
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
