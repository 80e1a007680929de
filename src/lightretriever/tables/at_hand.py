"""What a model's tokens add to texts: from the model, or from where it is kept, which needs no torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from lightretriever.errors import LightRetrieverError, MismatchError, MissingExtraError, ModelError, UsageError
from lightretriever.progress import Progress
from lightretriever.tables.prior import Prior, asks_model
from lightretriever.tables.row_store import ModelRows, RowsKey, make_rows, rows_kept, stored_rows
from lightretriever.tables.samples import Vectors
from lightretriever.text.tokenizer import tokenizer_hash
from lightretriever.vectors.folder import VectorsFolder

if TYPE_CHECKING:
    from lightretriever.document.encoder import DocumentEncoder

Begin = Callable[[str, str], Progress]
"""Called as a step begins, with its name and what it counts; gives what to tell its progress to."""

QUICK_BYTES = 600_000_000
"""Of weights: a model that nobody named is run by itself only if that is a matter of a few minutes on a CPU."""


def silent(_what: str, _unit: str) -> Progress:
    """A `Begin` for nobody."""
    return lambda _done, _total: None


def model_rows(
    prior: Prior,
    tower: DocumentEncoder | None,
    vectors: Vectors | None,
    tokenizer: Tokenizer,
    prompt: str | None,
    begin: Begin,
) -> ModelRows | None:
    """What each token adds to a text for the model of a fit; None where the prior is another, or it is not at hand.

    Args:
        prior, tower, vectors, prompt: as `fit_table` has them.
        tokenizer: the one to fit with.
        begin: gives what the progress of running the vocabulary is told to.

    Raises:
        LightRetrieverError: the prior is the model by name, and it is not at hand.
    """
    if not asks_model(prior):
        return None
    if tower is not None:
        return rows_of_tower(tower, tower.default_prompt if prompt is None else prompt, begin)
    named = prior is not None
    if not isinstance(vectors, VectorsFolder):
        if named:
            raise UsageError("prior 'model' needs the model: give the tower, or a vectors folder that it wrote")
        return None
    try:
        return rows_of_folder(vectors, tokenizer, prompt, begin, large=named)
    except LightRetrieverError as error:
        if named:
            raise
        warnings.warn(
            "tokens that no text holds get no row, and a query of them no dense vector: the model that made the "
            f"vectors, {vectors.model or 'an unknown one'}, is not at hand ({error}); fit with the model, or with a "
            "prior of zero if that is meant",
            stacklevel=4,
        )
        return None


def rows_of_tower(tower: DocumentEncoder, prompt: str, begin: Begin) -> ModelRows:
    """What each token adds to a text for a tower, worked out once for the machine, see `row_store`."""
    own = prompt == tower.default_prompt
    key = RowsKey(tower.revision, tokenizer_hash(tower.tokenizer), None if own else prompt)
    return rows_kept(key, partial(_run, tower, prompt, begin))


def rows_of_folder(
    vectors: VectorsFolder, tokenizer: Tokenizer, prompt: str | None, begin: Begin, large: bool = False
) -> ModelRows:
    """The same of the model that made a vectors folder, if it is on this machine: the network is not asked for it.

    Args:
        vectors: its revision says which model that is.
        tokenizer: the one to fit with.
        prompt: None for the model's own.
        begin: gives what the progress of running the vocabulary is told to.
        large: run the model however long it takes.

    Raises:
        LightRetrieverError: it is not at hand; the message says why.
    """
    key = RowsKey(vectors.revision, tokenizer_hash(tokenizer), prompt)
    found = stored_rows(key) if vectors.revision else None
    if found is not None:
        return found
    tower = _load(vectors, large)
    if tower.revision != vectors.revision and tower.backbone.folder.path.name != vectors.revision:
        raise MismatchError("it is not as it was when it made the vectors")
    if tokenizer_hash(tower.tokenizer) != key.tokenizer:
        raise MismatchError("it has another tokenizer than the fit")
    said = tower.default_prompt if prompt is None else prompt
    own = RowsKey(vectors.revision, key.tokenizer, None if said == tower.default_prompt else said)
    kept = make_rows if own == key else rows_kept  # under the same key there is nothing, as was said above
    return kept(own, partial(_run, tower, said, begin))


def _run(tower: DocumentEncoder, prompt: str, begin: Begin) -> ModelRows:
    from lightretriever.tables.cache import token_rows  # torch
    from lightretriever.tables.general_rows import general_rows

    alone = token_rows(tower, prompt, begin("running the vocabulary", "tokens"))
    rows = general_rows(tower, alone, prompt, begin("encoding texts made of it", "texts"))
    return ModelRows(rows, tower.name, prompt)


def _load(vectors: VectorsFolder, large: bool) -> DocumentEncoder:
    """The model that made the vectors, from this machine; weights are not read before they are known to be wanted."""
    source, base = vectors.origin.get("source") or vectors.model, vectors.origin.get("base")
    if not isinstance(source, str) or not source or not (base is None or isinstance(base, str)):
        raise ModelError("which model that was is not known")
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise MissingExtraError("running a model", "models")
    from lightretriever.document.folder import MINILM, find_folder  # no torch yet

    if source != MINILM and not _is_folder(source):
        source = _from_hub_cache(source, vectors.revision)
    if base is not None and not _is_folder(base):
        raise ModelError(f"its base model {base} is no folder here")
    folder = find_folder(source).path
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    if size > QUICK_BYTES and not large:
        raise ModelError(
            f"its weights take {size / 1e9:.1f} GB, so that running its vocabulary may take long: ask for that with "
            "prior 'model'"
        )
    from lightretriever.document.encoder import DocumentEncoder

    return DocumentEncoder.load(source, base=base, dtype="float32", sparse="none")


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # no name of a file
        return False


def _from_hub_cache(name: str, revision: str) -> str:
    """The folder in the hub's cache on this machine of a model at a commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError, HFValidationError, LocalEntryNotFoundError):
        raise ModelError("it is not on this machine") from None
    if (folder / "adapter_config.json").is_file():
        raise ModelError("it is an adapter, whose base model has to be named")
    return str(folder)
