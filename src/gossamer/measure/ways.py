"""Ways to decode a model: gossamer's Decoder where it takes the model, transformers everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.core import UnsupportedError
from gossamer.ops import PackedLinear, explain
from gossamer.ops.decode import Decoder

TRANSFORMERS, DECODER = "transformers", "gossamer's Decoder"


@dataclass(frozen=True, eq=False)
class Decoding:
    """One way to decode one model greedily at batch 1.

    Args:
        model: that is decoded.
        way: ``transformers`` or ``gossamer's Decoder``.
        kernels: what computes the matrices of one token, each once.
        steps: from a prompt ``[1, length]`` to the likeliest next token, again and again; the
            first item needs the whole prompt, each later one a single step.
    """

    model: nn.Module
    way: str
    kernels: tuple[str, ...]
    steps: Callable[[Tensor], Iterator[object]]


def quickest_decoding(model: nn.Module, length: int) -> Decoding:
    """By the Decoder where its compiled kernels take the model, else by transformers.

    Args:
        model: a causal language model of transformers.
        length: most tokens of a prompt and what is decoded after it.

    Raises:
        UnsupportedError: the model does not decode with a cache.
    """
    return by_decoder(model, length) if decoder_takes(model, length) else by_transformers(model)


def decoder_takes(model: nn.Module, length: int = 512) -> bool:
    """True where the Decoder's compiled kernels decode this model."""
    try:
        return Decoder(model, length).refusal is None
    except UnsupportedError:
        return False


def by_transformers(model: nn.Module) -> Decoding:
    """Through the model's own forward pass and a growing cache.

    Raises:
        UnsupportedError: the model does not decode with a cache.
    """
    _needs_cache(model)
    return Decoding(model, TRANSFORMERS, layer_kernels(model), lambda ids: greedy(model, ids))


def by_decoder(model: nn.Module, length: int) -> Decoding:
    """In one call of gossamer's kernels a token; the prompt goes through the model itself.

    Raises:
        UnsupportedError: a model that the Decoder has no place for.
    """
    decoder = Decoder(model, length)

    def steps(ids: Tensor) -> Iterator[int]:
        token = int(decoder.read(ids).argmax())
        while True:
            yield token
            token = int(decoder.step(token).argmax())

    return Decoding(model, DECODER, decoder.kernels(), steps)


def greedy(model: nn.Module, ids: Tensor) -> Iterator[Tensor]:
    """Yield the likeliest next token id again and again, as int64 ``[1, 1]``; the cache is kept.

    The first item needs the whole prompt ``[1, length]``, each later one a single step.
    """
    _needs_cache(model)
    accepted = inspect.signature(model.forward).parameters
    last = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    tokens, cache = ids.to(next(model.parameters()).device), None
    while True:
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, **last)
        cache = output.past_key_values
        tokens = output.logits[:, -1:].argmax(-1)
        yield tokens


def takes_cache(model: nn.Module) -> bool:
    """True for a model that decodes token by token with a key-value cache."""
    accepted = inspect.signature(model.forward).parameters
    config = getattr(model, "config", None)
    return "past_key_values" in accepted and not getattr(config, "is_encoder_decoder", False)


def _needs_cache(model: nn.Module) -> None:
    if not takes_cache(model):
        raise UnsupportedError(
            f"{type(model).__name__} takes no past_key_values, so it cannot decode with a cache."
        )


def layer_kernels(model: nn.Module) -> tuple[str, ...]:
    """What the packed layers of a model run for one token, each once; torch's where none is."""
    dtype = next(model.parameters()).dtype
    found = set()
    for module in model.modules():
        if isinstance(module, PackedLinear):
            packed = module.packed
            x = torch.zeros(1, packed.shape[1], dtype=dtype, device=packed.device)
            words = explain(x, packed)
            found.add(words if words.startswith("reference") else words.partition(":")[0])
    return tuple(sorted(found)) or ("torch",)
