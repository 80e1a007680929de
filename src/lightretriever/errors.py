"""Every error a user can meet. A message is one line: what is wrong, where, and what to do about it."""

from __future__ import annotations


class LightRetrieverError(Exception):
    """Base of all errors this package raises on purpose; the command line prints its message alone."""


class UsageError(LightRetrieverError, ValueError):
    """An argument has a value that makes no sense (k = 0, an unknown mode). The command line exits with 2."""


class InputError(LightRetrieverError, ValueError):
    """A file of the user's cannot be read as what it should be; the message names file and line or id."""


class ModelError(LightRetrieverError):
    """A model folder cannot be loaded, or must not be (a pickle), or lacks what was asked of it."""


class ArtifactError(LightRetrieverError):
    """A folder of ours (table, vectors, index) is absent, half-written, damaged or from another version."""


class MismatchError(LightRetrieverError):
    """Two things that must belong together do not: a table and an index, vectors and their texts."""


class TrainingError(LightRetrieverError):
    """A training run cannot go on: a loss that is no number."""


class ClusterError(LightRetrieverError):
    """A Ray cluster is not there, has no room, or gives up; what was written is kept."""


class LockedError(LightRetrieverError):
    """Another process writes there, or builds: try again when it is done."""


class MissingExtraError(LightRetrieverError, ImportError):
    """An optional dependency is not installed.

    Args:
        what: the feature that needs it, as the user would name it.
        extra: the extra of this package that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: pip install 'lightretriever[{extra}]'")
        self._made_of = (what, extra)

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str], dict[str, object]]:
        return type(self), self._made_of, self.__dict__  # a pool's worker sends its errors back pickled
