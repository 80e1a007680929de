"""What all sequences of a batch begin with, run through the model once: what it remembers of that is shared."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import Cache

from lightretriever.document.device import to_device

if TYPE_CHECKING:
    from lightretriever.document.backbone import Backbone

_OF_THE_LENGTH = {"dynamic", "longrope"}  # kinds of rotary positions that change where a sequence grows long
_PREFIX, _ROWS, _OWN = 12, 3, 3  # ids of the probe: what is shared, and rows of their own behind it


@dataclass(frozen=True)
class Sharing:
    """Whether rows can share the run of their prefix; true where they can.

    Attributes:
        reason: why not; "" where they can.
        argument: the name under which the model returns what it remembers, and takes it again.
    """

    reason: str = ""
    argument: str = ""

    def __bool__(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Prefix:
    """A prefix that was run: what the model remembers of it, for one row."""

    memory: Cache
    argument: str

    @property
    def numbers(self) -> int:
        """How many numbers a row's worth holds."""
        return sum(layer.keys.numel() + layer.values.numel() for layer in _attending(self.memory))


def common_prefix(tokens: Sequence[list[int]]) -> list[int]:
    """The ids that every sequence begins with, at least one of each sequence's own being left."""
    first, last = min(tokens), max(tokens)  # what these two share, all between them share
    limit = min(map(len, tokens)) - 1
    length = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return list(first[: max(0, min(length, limit))])


@torch.inference_mode()
def try_sharing(backbone: Backbone) -> Sharing:
    """Ask a model whether rows behind a prefix that was run once are those of whole sequences: by trying it.

    Nothing is concluded from signatures or class names, which change from one version of transformers to the next:
    the model goes on from what it said it remembers, under the name that it gave it, and the hidden states must be
    those of the same sequences run whole. Shared they can be when a row is its last position alone, attention is
    causal, and what every layer remembers is keys and values.
    """
    if not backbone.causal:
        return Sharing("its attention looks both ways, so that what it makes of a prompt depends on what follows")
    if backbone.pooling != "lasttoken":
        return Sharing(f"its vectors are pooled ({backbone.pooling}) over the prompt's positions too")
    model = backbone.model
    moving = moving_positions(model)
    if moving:  # a probe of a few tokens does not show it
        return Sharing(f"its rotary positions ({', '.join(moving)}) are others in a longer sequence")
    training = model.training
    model.eval()  # dropout would make any two runs differ
    try:
        with torch.autocast(backbone.device.type, enabled=False):
            return _compare(backbone)
    except torch.OutOfMemoryError:  # a RuntimeError that says nothing about the model
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, AssertionError) as error:
        said = " ".join(str(error).split())[:120]
        return Sharing(f"{type(model).__name__} does not go on from what it remembers ({type(error).__name__}: {said})")
    finally:
        model.train(training)


def moving_positions(model: nn.Module) -> list[str]:
    """Kinds of rotary positions of a model that change with the length, and that it computes anew for each."""
    return sorted(_rope_types(getattr(model.config, "rope_parameters", None)) & _OF_THE_LENGTH)


def _rope_types(parameters: object) -> set[str]:
    """The kinds of rotary positions in a configuration; some models have one for each kind of layer."""
    if not isinstance(parameters, Mapping):
        return set()
    own = {str(parameters["rope_type"])} if "rope_type" in parameters else set()
    return own.union(*map(_rope_types, parameters.values()))


def _compare(backbone: Backbone) -> Sharing:
    name = type(backbone.model).__name__
    vocabulary = backbone.model.get_input_embeddings().num_embeddings  # type: ignore[operator]
    ids = torch.arange(1, 1 + _PREFIX + _ROWS * _OWN, device=backbone.device) * 7 % vocabulary
    prefix, own = ids[:_PREFIX], ids[_PREFIX:].view(_ROWS, _OWN)
    argument, memory = _run(backbone, prefix.tolist())
    if memory is None:
        return Sharing(f"{name} returns no keys and values")
    other = sorted({type(layer).__name__ for layer in memory.layers if not hasattr(layer, "keys")})
    if other or not _attending(memory):
        held = ", ".join(other) or "no layer has any"
        return Sharing(f"{name} remembers something else than keys and values ({held})")
    whole = backbone.hidden(
        torch.cat([prefix.expand(_ROWS, -1), own], dim=1), torch.full((_ROWS,), _PREFIX + _OWN, device=ids.device)
    )[:, _PREFIX:].float()
    difference = (run_after(backbone, Prefix(memory, argument), own) - whole).norm(dim=-1) / whole.norm(dim=-1)
    # An accelerator may compute float32 in less.
    exact = backbone.dtype == torch.float32 and backbone.device.type == "cpu"
    if not bool((difference <= (1e-4 if exact else 5e-2)).all()):  # no number is no agreement
        off = float(difference.max())
        return Sharing(f"{name} gives other vectors when it goes on from what it remembers (off by {off:.1%})")
    return Sharing(argument=argument)


def run_prefix(backbone: Backbone, prefix: Sequence[int]) -> Prefix | None:
    """Run a prefix; None for an empty one and where ``backbone.sharing`` says why every row must be run whole."""
    if not prefix or not backbone.sharing:
        return None
    argument, memory = _run(backbone, prefix)
    return None if memory is None else Prefix(memory, argument)


def run_after(backbone: Backbone, shared: Prefix, ids: Tensor) -> Tensor:
    """Hidden states of what follows the shared prefix.

    No position sees the padding after it, and the model counts on from what it remembers: neither a mask nor
    positions are needed.

    Args:
        shared: what `run_prefix` gave; it stays as it is.
        ids: int64 [n, T], right-padded.

    Returns:
        float32 [n, T, H]; at padding, anything.
    """
    memory = copy.deepcopy(shared.memory)  # one row's worth; the model appends to what it is given
    for layer in _attending(memory):
        layer.keys = layer.keys.expand(len(ids), -1, -1, -1)  # views: nothing is copied until the append
        layer.values = layer.values.expand(len(ids), -1, -1, -1)
    output = backbone.model(input_ids=ids, use_cache=True, **{shared.argument: memory})
    return output.last_hidden_state.float()


def _run(backbone: Backbone, ids: Sequence[int]) -> tuple[str, Cache | None]:
    """What the model remembers of ids, and what it calls that; None where it is nothing that can be gone on from."""
    output = backbone.model(input_ids=to_device(torch.tensor([list(ids)]), backbone.device), use_cache=True)
    return next(((name, value) for name, value in output.items() if isinstance(value, Cache)), ("", None))


def _attending(memory: Cache) -> list:
    """The layers that hold keys and values; one that uses another layer's holds none of its own."""
    return [layer for layer in memory.layers if getattr(layer, "keys", None) is not None]
