"""From the hidden states of a text to its one vector (METHOD "Documents")."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Pooling = Literal["lasttoken", "mean", "cls"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pool(hidden: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """One float32 vector for each text, un-normalised.

    Args:
        hidden: [n, T, H] last hidden states of right-padded texts.
        lengths: int64 [n], attended positions of each, at least 1.
        pooling: the last attended position, the mean over the attended ones, or the first.

    Returns:
        float32 [n, H].
    """
    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "lasttoken":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1].float()
    attended = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    return (hidden.float() * attended[:, :, None]).sum(1) / lengths[:, None]
