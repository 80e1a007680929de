"""The document tower: a transformer, offline. Needs the ``models`` extra."""

from importlib.util import find_spec

from lightretriever.errors import MissingExtraError

if find_spec("torch") is None or find_spec("transformers") is None:
    raise MissingExtraError("encoding documents", "models")
