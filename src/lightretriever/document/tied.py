"""A sparse head for an encoder that has none, tied to its own input embeddings (METHOD "Documents", Sparse).

For the token x_t at position t, with hidden state h_t and the embeddings ê centred and scaled to unit length:

    u_t = (s + gate·h_t) ê_{x_t} + LayerNorm(gelu(dense·h_t)),    logit_v(t) = ⟨ê_v, u_t⟩ + b_v

The second part is BERT's MLM transform, which adds what a text does not say. The first is the token itself. At the
start gate and the LayerNorm's gain are zero and b_v = e^{w_v} − 1 − s: a document then has its own tokens, each with
weight w_v = 2·idf_v / max idf, and rare tokens like them, with less. So a tower that never saw an MLM loss begins as
lexical search, and learns from there how much each occurrence matters and what to add.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lightretriever.document.sparse import LinearHead
from lightretriever.errors import ModelError

TIED_HEAD = "sparse_head.safetensors"
FORMAT = {"format": "lightretriever tied sparse head", "version": 1}
"""What the file's metadata holds, as JSON under the key ``lightretriever``."""

SCALE = 8.0
"""s: v is lit up by tokens of a cosine over 1 − (e^{w_v} − 1) / s with it: 0.2 for the rarest, 0.8 for one of half its
weight. Only what is lit has a gradient. Of all-MiniLM-L6-v2's 30,522 tokens, an abstract of SciFact lights up 2,400; at
12 it would be its own 128 and 32 more, at 6 two thirds of the vocabulary."""
HIGHEST_WEIGHT = 2.0


class TiedHead(nn.Module):
    """The head's own parameters; the embeddings stay the tower's, and are handed in.

    Args:
        hidden: H, of the hidden states.
        embedding: E, of the embeddings.
        width: V, token ids.
    """

    def __init__(self, hidden: int, embedding: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, embedding)
        self.norm = nn.LayerNorm(embedding)
        self.gate = nn.Linear(hidden, 1)
        self.bias = nn.Parameter(torch.zeros(width))
        for part in (self.norm, self.gate):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
        self.set_idf(torch.ones(width))

    @torch.no_grad()
    def set_idf(self, idf: Tensor) -> None:
        """Start from these inverse document frequencies, float32 [V], none negative and one positive."""
        self.bias.copy_(torch.expm1(HIGHEST_WEIGHT * idf / idf.max()) - SCALE)

    def states(self, hidden: Tensor, ids: Tensor, unit: Tensor) -> Tensor:
        """u float32 [n, T, E] of hidden states [n, T, H], ids int64 [n, T] and `unit_rows` [V, E]."""
        with torch.autocast(hidden.device.type, enabled=False):  # in bfloat16 the gate beside s would go by sixteenths
            hidden = hidden.to(self.gate.weight.dtype)  # float32, but where DeepSpeed has rounded all weights
            gate = SCALE + self.gate(hidden).float()
            own = nn.functional.embedding(ids, unit)
            return gate * own + self.norm(nn.functional.gelu(self.dense(hidden))).float()

    def over(self, embeddings: Tensor, width: int, folder: Path) -> LinearHead:
        """The head over a tower's embeddings [≥ V, E], for states that `states` gave.

        Raises:
            ModelError: the file in ``folder`` was made for another tower.
        """
        if (width, embeddings.shape[1]) != (len(self.bias), self.dense.out_features):
            raise ModelError(
                f"{folder / TIED_HEAD} is for {len(self.bias)} tokens of {self.dense.out_features} dimensions, the "
                f"base model has {width} of {embeddings.shape[1]}: is the base model right?"
            )
        output = nn.Linear(self.dense.out_features, width, device="meta")
        output.weight = nn.Parameter(unit_rows(embeddings, width), requires_grad=False)
        output.bias = self.bias
        return LinearHead(output, width)


def unit_rows(embeddings: Tensor, width: int) -> Tensor:
    """The first V rows less their mean, at unit length, float32 [V, E].

    Their mean is what all of them share; without it the cosine of two tokens says whether they are alike.
    """
    rows = embeddings[:width].float()
    return nn.functional.normalize(rows - rows.mean(0), dim=-1)


def read_tied_head(folder: Path) -> TiedHead:
    """Read `sparse_head.safetensors`, frozen.

    Raises:
        ModelError: damaged, or a file of another kind or version.
    """
    path = folder / TIED_HEAD
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {}).get("lightretriever", "{}"))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        if told != FORMAT:
            raise ModelError(f"{path} is no sparse head of this version (it says {told or 'nothing'})")
        embedding, hidden = weights["dense.weight"].shape
        head = TiedHead(hidden, embedding, len(weights["bias"]))
        head.load_state_dict(weights)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{path} cannot be read, it is damaged or of another kind ({reason})") from None
    return head.eval().requires_grad_(False)
