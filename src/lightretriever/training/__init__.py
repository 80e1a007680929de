"""Training a document tower for look-up queries (METHOD "Training losses"). Needs the ``train`` extra."""

from importlib.util import find_spec

from lightretriever.errors import MissingExtraError

if any(find_spec(name) is None for name in ("torch", "transformers", "peft")):
    raise MissingExtraError("training a tower", "train")
