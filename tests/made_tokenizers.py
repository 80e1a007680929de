"""Small tokenizers of every family, made in memory from a few lines, the same in every process."""

from __future__ import annotations

import re
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LINES = (
    "how tall is mount everest? the highest mountain of the world, 8,848 meters",
    "who invented the light bulb in 1879, and what's the history of its name",
    "don't read a csv file with one thread; it's slow: use 2 or 4 threads!",
    "naïve café école straße über größe привет мир 世界最高峰是哪座山 中文 テスト 한국어",
    "C++ e-mail (a+b)^2 = a^2 + 2ab + b^2 #100% $5.00 user_name http://example.org/x?y=z",
)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LLAMA_PATTERN = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
QWEN_PATTERN = LLAMA_PATTERN.replace("\\p{N}{1,3}", "\\p{N}")


def pieces(lines: tuple[str, ...]) -> list[str]:
    """The words of the lines and their beginnings, in order: made by rule, because not every trainer of
    `tokenizers` gives the same vocabulary twice."""
    words = dict.fromkeys(word for line in lines for word in re.findall(r"\w+|[^\w\s]", line.lower()))
    return list(dict.fromkeys(piece for word in words for piece in (word, word[:3], word[:1])))


def make_wordpiece(lines: tuple[str, ...], specials: tuple[str, ...], **options: int) -> Tokenizer:
    """WordPiece of the lines' pieces and characters, each character also as a continuation."""
    characters = sorted({c for line in lines for c in line.lower() if not c.isspace()})
    tokens = dict.fromkeys([*specials, *characters, *(f"##{c}" for c in characters), *pieces(lines)])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", **options))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(specials))
    return tokenizer


@cache
def wordpiece() -> Tokenizer:
    """BERT-like, lower-casing, with BERT's special tokens."""
    tokenizer = make_wordpiece(LINES, SPECIALS, max_input_chars_per_word=30)
    tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    return tokenizer


def _byte_level(pattern: str | None, specials: list[str], normalizer: normalizers.Normalizer | None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    if pattern is None:
        tokenizer.pre_tokenizer = byte_level
    else:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=450,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


@cache
def qwen() -> Tokenizer:
    """Byte-level BPE split as Qwen does, NFC, no begin token."""
    return _byte_level(QWEN_PATTERN, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizers.NFC())


@cache
def llama() -> Tokenizer:
    """Byte-level BPE split as Llama 3 does, lower-casing, with a begin token."""
    reserved = [f"<|reserved_special_token_{i}|>" for i in range(3)]
    specials = ["<|begin_of_text|>", "<|end_of_text|>", *reserved]
    return _byte_level(LLAMA_PATTERN, specials, normalizers.Lowercase())


@cache
def gpt2() -> Tokenizer:
    """Byte-level BPE with the pattern built into `ByteLevel`."""
    return _byte_level(None, ["<|endoftext|>"], None)


@cache
def unigram() -> Tokenizer:
    """SentencePiece-like Unigram with Metaspace, NFKC, an added word that is not special."""
    characters = sorted({c for line in LINES for c in line if not c.isspace()})
    plain = [
        ("▁", -3.0),
        *((c, -6.0) for c in characters),
        *((piece, -4.0) for piece in pieces(LINES) if len(piece) > 1),
    ]
    spaced = [(f"▁{piece}", -3.5) for piece in pieces(LINES)]
    specials = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = Tokenizer(models.Unigram([*specials, *plain, *spaced], unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.add_tokens([AddedToken("everest", normalized=True)])
    return tokenizer


@cache
def whole_text_bpe() -> Tokenizer:
    """BPE over the whole text with spaces replaced, as Gemma and Llama 2 have it: it does not come apart at spaces."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<pad>"], show_progress=False)
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer
