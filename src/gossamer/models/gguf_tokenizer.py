"""The tokenizer that a GGUF file describes in its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossamer.core.errors import StoreError, UnsupportedError
from gossamer.models.gguf_file import GgufFile

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer
    from tokenizers.processors import PostProcessor
    from transformers import PreTrainedTokenizerFast

_CONTROL, _USER_DEFINED = 3, 4
# Names of `tokenizer.ggml.pre` by the way they cut text before byte-level merges.
_DIGITS_ALONE = ("smollm", "starcoder", "refact", "command-r")
_LLAMA3 = ("llama-bpe", "llama-v3", "llama3")
_PLAIN = ("gpt-2",)
_LLAMA3_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def gguf_tokenizer(file: GgufFile) -> PreTrainedTokenizerFast:
    """Byte-level BPE tokenizer with the file's vocabulary, merges, specials and chat template.

    Raises:
        UnsupportedError: another kind of tokenizer, or a rule for cutting text that is not known.
        StoreError: a vocabulary that does not hold what its merges make.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast
    meta = file.metadata
    kind, cut = meta.get("tokenizer.ggml.model"), meta.get("tokenizer.ggml.pre")
    if kind != "gpt2" or cut not in (*_DIGITS_ALONE, *_LLAMA3, *_PLAIN):
        raise UnsupportedError(
            f"{file.path} has a tokenizer of kind {kind!r} with rule {cut!r}; byte-level BPE with "
            f"{', '.join((*_DIGITS_ALONE, *_LLAMA3, *_PLAIN))} can be read from the file, for "
            "others put the model's tokenizer.json beside it."
        )
    tokens: list[str] = meta.get("tokenizer.ggml.tokens", [])
    vocab = {token: index for index, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ", 1)) for merge in meta.get("tokenizer.ggml.merges", [])]
    if not tokens or any("".join(merge) not in vocab for merge in merges):
        raise StoreError(f"{file.path} is damaged: its vocabulary lacks tokens that it merges.")
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=cut in _LLAMA3))
    core.pre_tokenizer = _pre_tokenizer(cut)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([
        AddedToken(token, special=True, normalized=False)
        for token, kind in zip(tokens, meta.get("tokenizer.ggml.token_type", []))
        if kind in (_CONTROL, _USER_DEFINED)
    ])
    special = {
        role: tokens[meta[f"tokenizer.ggml.{key}_token_id"]]
        for role, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"),
                          ("pad_token", "padding"))
        if f"tokenizer.ggml.{key}_token_id" in meta
    }
    if meta.get("tokenizer.ggml.add_bos_token") and "bos_token" in special:
        core.post_processor = _begin_with(special["bos_token"], tokens)
    build: Any = PreTrainedTokenizerFast  # its constructor is untyped
    tokenizer: PreTrainedTokenizerFast = build(tokenizer_object=core, **special)
    tokenizer.chat_template = meta.get("tokenizer.chat_template")
    return tokenizer


def _pre_tokenizer(cut: str) -> PreTokenizer:
    from tokenizers import Regex, pre_tokenizers
    if cut in _LLAMA3:
        return pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(_LLAMA3_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if cut in _PLAIN:
        return words
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])


def _begin_with(token: str, tokens: list[str]) -> PostProcessor:
    from tokenizers.processors import TemplateProcessing
    return TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B",
        special_tokens=[(token, tokens.index(token))],
    )
