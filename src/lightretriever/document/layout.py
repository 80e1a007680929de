"""What a model folder is: one list of layouts, tried in order, decides; what none of them honours is refused.

| layout | known by | pooling, lower-casing, prompts and specials are those of |
|---|---|---|
| release | `model_args.yaml` | that file: the authors' switches, ours alike |
| sentence-transformers | `modules.json` | that file and what it points to |
| adapter | `adapter_config.json` | the base model, whatever layout that has |
| plain | `config.json` | METHOD for a causal LM; the mean of hidden states for an encoder |

In the first two, weights may be whole or an adapter (`adapter_config.json` beside them), never both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightretriever.document.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapter, find_base, read_adapter
from lightretriever.document.folder import ModelFolder, find_folder, no_weights
from lightretriever.document.sentence import (
    MODULES,
    SentenceFolder,
    read_max_length,
    read_prompt,
    read_sentence_folder,
)
from lightretriever.document.switches import SWITCHES, Switches, read_switches
from lightretriever.document.tied import TIED_HEAD
from lightretriever.errors import ModelError, UsageError
from lightretriever.text.prompt import DEFAULT_PROMPT

CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Plan:
    """A model folder's own account of how its vectors are made, before any weight is read.

    Attributes:
        folder, base: the folder, and the base model's where weights are an adapter; with the parts that decide.
        transformer: where the configuration and the whole weights are.
        tokens: where the tokenizer is.
        head: where a tied sparse head may be.
        adapter: what is added to the weights, or None.
        switches: pooling, lower-casing and the rest; None for a plain model, where its kind decides.
        max_length: tokens that it reads; None where it does not say.
        query_prompt: None where its kind decides.
        document_prompt: before a document.
    """

    folder: ModelFolder
    transformer: Path
    tokens: Path
    head: Path
    base: ModelFolder | None = None
    adapter: Adapter | None = None
    switches: Switches | None = None
    max_length: int | None = None
    query_prompt: str | None = None
    document_prompt: str = ""

    def switches_for(self, causal: bool) -> Switches:
        """The switches; those of a plain model of this kind where the folder has none."""
        if self.switches is not None:
            return self.switches
        return Switches() if causal else Switches(pooling="mean", lowercase=False)

    def prompt_for(self, causal: bool) -> str:
        """What goes before a query."""
        if self.query_prompt is not None:
            return self.query_prompt
        return DEFAULT_PROMPT if causal or (self.folder.path / SWITCHES).is_file() else ""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which a folder is a model.

    Attributes:
        name: for messages.
        mark: the file that tells it.
        without: files that would contradict it, and may not be there.
        read: makes the plan.
    """

    name: str
    mark: str
    without: tuple[str, ...]
    read: Callable[[ModelFolder, str | Path | None], Plan]


def read_layout(model: str | Path, base: str | Path | None = None) -> Plan:
    """Find a model and decide what its folder is.

    Args:
        model: alias, path or hub name.
        base: the base model of an adapter, where its own configuration does not lead to it.

    Raises:
        ModelError: no model, not complete, one of two minds, or with a setting that is not honoured.
        UsageError: a base for what is no adapter.
    """
    folder = find_folder(model)
    plan = find_layout(folder.path).read(folder, base)
    if base is not None and plan.adapter is None:
        raise UsageError(f"{plan.folder.name} is no LoRA release: it takes no base model")
    return plan


def find_layout(folder: Path) -> Layout:
    """The first layout whose mark is in the folder.

    Raises:
        ModelError: none's is, or another's is too that contradicts it.
    """
    for layout in LAYOUTS:
        if not (folder / layout.mark).is_file():
            continue
        other = next((name for name in layout.without if (folder / name).is_file()), None)
        if other is not None:
            raise ModelError(
                f"{folder} holds {layout.mark} and {other}, which say in two ways what it is: remove the wrong one"
            )
        return layout
    if (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"{folder} holds {ADAPTER_WEIGHTS} without {ADAPTER_CONFIG}: it is not complete")
    if any(folder.glob("model*.safetensors")):
        raise ModelError(f"{folder} holds no {CONFIG}: it is no model folder, or not complete")
    raise no_weights(folder)


def _release(folder: ModelFolder, base: str | Path | None) -> Plan:
    return _with_own_prompts(replace(_weights(folder, folder.path, base), switches=read_switches(folder.path)))


def _sentence(folder: ModelFolder, base: str | Path | None) -> Plan:
    told = read_sentence_folder(folder.path)
    return replace(_weights(replace(folder, parts=told.parts), told.transformer, base), **_told(told))


def _adapter(folder: ModelFolder, base: str | Path | None) -> Plan:
    plan = _weights(folder, folder.path, base)
    if plan.base is None:
        return plan
    under = find_layout(plan.base.path).read(plan.base, None)
    return _with_own_prompts(replace(under, folder=folder, base=under.folder, adapter=plan.adapter, tokens=plan.tokens))


def _plain(folder: ModelFolder, base: str | Path | None) -> Plan:
    return _with_own_prompts(_weights(folder, folder.path, base))


def _weights(folder: ModelFolder, place: Path, base: str | Path | None) -> Plan:
    """The plan as far as ``place`` decides it, where a folder's weights are, or an adapter and the name of its base."""
    plan = Plan(folder=folder, transformer=place, tokens=place, head=folder.path)
    if not (place / ADAPTER_CONFIG).is_file():
        return plan
    if any(place.glob("model*.safetensors")):
        raise ModelError(
            f"{place} holds whole weights (model.safetensors) and an adapter ({ADAPTER_CONFIG}): remove the one that "
            "is not meant"
        )
    adapter = read_adapter(place)
    found = find_base(adapter, folder, base)
    under = Plan(folder=found, transformer=found.path, tokens=found.path, head=found.path)
    if (found.path / MODULES).is_file():
        told = read_sentence_folder(found.path)
        found = replace(found, parts=told.parts)
        under = replace(under, transformer=told.transformer, tokens=told.transformer, **_told(told))
    if (under.transformer / ADAPTER_CONFIG).is_file():
        raise ModelError(f"{folder.path}: its base {found.name} is an adapter itself: merge that into its base first")
    return replace(
        under,
        folder=folder,
        base=found,
        adapter=adapter,
        tokens=place if (place / "tokenizer.json").is_file() else under.tokens,
        head=folder.path if folder.has(TIED_HEAD) else under.head,
    )


def _told(told: SentenceFolder) -> dict[str, Any]:
    """The part of a plan that a sentence-transformers folder decides."""
    return {
        "switches": Switches(
            pooling=told.pooling,
            normalize=told.normalize,
            lowercase=told.lowercase,
            edit_specials=False,
            dim=told.dim,
        ),
        "max_length": told.max_length,
        "query_prompt": told.query_prompt,
        "document_prompt": told.document_prompt,
    }


def _with_own_prompts(plan: Plan) -> Plan:
    """The plan with prompts and length of the folder's own, where it says any."""
    query, document = (read_prompt(plan.folder.path, name) for name in ("query", "document"))
    return replace(
        plan,
        max_length=read_max_length(plan.folder.path) or plan.max_length,
        query_prompt=plan.query_prompt if query is None else query,
        document_prompt=plan.document_prompt if document is None else document,
    )


LAYOUTS = (
    Layout("release", SWITCHES, (MODULES,), _release),
    Layout("sentence-transformers", MODULES, (), _sentence),
    Layout("adapter", ADAPTER_CONFIG, (), _adapter),
    Layout("plain", CONFIG, (), _plain),
)
"""What a folder can be, tried in order."""
