"""What the shared prompt saves: a token table with the prompt run once, against the prompt run for every token.

A random model of Qwen2's shape and a prompt of 20 tokens, float32; both ways interleaved over the same tokens, and
their rows compared. Needs the `dev` extra: `python benchmarks/table_cache.py`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from results import Result, report
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from lightretriever import DocumentEncoder
from lightretriever.tables.cache import token_rows

PROMPT_TOKENS = 20


def make_model(folder: Path, hidden: int, layers: int, tokens: int) -> None:
    """A random Qwen2 with the proportions of Qwen2.5-0.5B's layers over a vocabulary of ``tokens`` words."""
    words = {f"w{i}": i for i in range(tokens - 1)}
    tokenizer = Tokenizer(models.WordLevel({**words, "<|endoftext|>": tokens - 1}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=tokens,
        hidden_size=hidden,
        intermediate_size=int(hidden * 5.4) // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 448),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokens - 1,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


@torch.inference_mode()
def whole_rows(tower: DocumentEncoder, prompt: str, batch: int) -> np.ndarray:
    """The plain way: every row its own ``[prompt; v; eos]``."""
    instruction = tower.tokenizer.encode(prompt, add_special_tokens=False).ids
    rows = []
    for start in range(0, tower.vocab_size, batch):
        tokens = range(start, min(start + batch, tower.vocab_size))
        ids = torch.tensor([[*instruction, v, tower.eos_id] for v in tokens], device=tower.backbone.device)
        hidden = tower.backbone.model(input_ids=ids, use_cache=False).last_hidden_state
        rows.append(hidden[:, -1].cpu().numpy())
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=448)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), arguments.hidden, arguments.layers, arguments.tokens)
        tower = DocumentEncoder.load(folder, device=arguments.device, dtype="float32", sparse="none")
    prompt = " ".join(f"w{i + 1}" for i in range(PROMPT_TOKENS))
    ways = {
        "prompt run once": lambda: token_rows(tower, prompt),
        # The batch that is fastest for it on two cores; at more it falls out of the caches.
        "prompt run for every token": lambda: whole_rows(tower, prompt, 64),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    rows: dict[str, np.ndarray] = {}
    for _ in range(arguments.rounds):
        for way, run in ways.items():
            start = time.perf_counter()
            rows[way] = run()
            seconds[way].append(time.perf_counter() - start)
    once, every = (statistics.median(seconds[way]) for way in ways)
    difference = float(np.abs(rows["prompt run once"] - rows["prompt run for every token"]).max())
    report(
        Result(
            name="table_cache",
            header=["way", "seconds", "tokens a second", "faster"],
            rows=[
                [way, f"{time_:.2f}", f"{arguments.tokens / time_:,.0f}", f"{every / time_:.1f}×"]
                for way, time_ in (("prompt run once", once), ("prompt run for every token", every))
            ],
            notes=(
                f"Token table of a random Qwen2 ({arguments.layers} layers, hidden {arguments.hidden}, "
                f"{arguments.tokens} tokens) under a prompt of {PROMPT_TOKENS} tokens, float32, {arguments.device}, "
                f"{torch.get_num_threads()} threads; medians of {arguments.rounds} interleaved rounds. "
                f"Largest difference between the rows of the two: {difference:.1e}."
            ),
            data={"seconds": seconds, "difference": difference},
        )
    )


if __name__ == "__main__":
    main()
