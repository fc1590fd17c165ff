"""Decoder: a model that reads a prompt and then decodes greedily at batch 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gossamer import native
from gossamer.core import ConfigError, DataError
from gossamer.ops.decode import cpu, reference
from gossamer.ops.decode.plan import plan_of


class Decoder:
    """Decoding at batch 1 with float32 activations and a cache of keys and values.

    The prompt goes through the model itself; every further token goes through all blocks in one
    call of the compiled kernels, with the weights where and as the model holds them. Weights may
    be packed or dense, float32 or bfloat16. Later changes inside the weights are seen, replaced
    layers are not.

    Args:
        model: a Llama, Mistral, Qwen2, Qwen3 or Gemma of transformers, on the CPU.
        length: most tokens of a prompt and what is decoded after it.

    Attributes:
        position: tokens that the caches hold.
        refusal: why the compiled kernels do not cover the model, None where they do.

    Raises:
        UnsupportedError: a model that `plan_of` refuses.
        ConfigError: a length below 1.
    """

    def __init__(self, model: nn.Module, length: int = 512) -> None:
        if length < 1:
            raise ConfigError(f"length must be at least 1, not {length}.")
        self._model: Any = model
        self._plan = plan = plan_of(model, -(-length // 16) * 16)
        self._keys = torch.zeros(len(plan.blocks), plan.key_heads, plan.length, plan.head)
        self._values = torch.zeros(len(plan.blocks), plan.key_heads, plan.head, plan.length)
        self.refusal = cpu.refusal(plan)
        self._stack = None if self.refusal else cpu.build(plan, self._keys, self._values)
        self.position = 0

    def explain(self) -> str:
        """Which kernels decode, and why."""
        if self.refusal is not None:
            return f"reference (dense products): {self.refusal}"
        return f"{native.isa()} kernels, the whole stack in one call"

    def kernels(self) -> tuple[str, ...]:
        """What computes the matrices of a token, each once: ``avx2 kernel for bitmask bfloat16``.
        """
        if self.refusal is not None:
            return (self.explain(),)
        kinds = {(p.layout, str(p.dtype).removeprefix("torch.")) for p in self._plan.matrices()}
        return tuple(f"{native.isa()} kernel for {layout} {dtype}"
                     for layout, dtype in sorted(kinds))

    def read(self, ids: Tensor) -> Tensor:
        """Start anew with a prompt ``[tokens]`` or ``[1, tokens]``; logits ``[vocab]`` after it.

        Raises:
            DataError: an empty prompt, or one longer than the decoder holds.
        """
        prompt = ids.reshape(1, -1)
        count = prompt.shape[1]
        if not 0 < count <= self._plan.length:
            raise DataError(
                f"A prompt must have 1 to {self._plan.length} tokens, not {count}; give a longer "
                "length to the decoder, or a shorter prompt."
            )
        with torch.inference_mode():
            output = self._model(input_ids=prompt, use_cache=True, logits_to_keep=1)
            for place, layer in enumerate(output.past_key_values.layers):
                self._keys[place, :, :count] = layer.keys[0]
                self._values[place, :, :, :count] = layer.values[0].transpose(1, 2)
        self.position = count
        logits: Tensor = output.logits[0, -1].float()
        return logits

    def step(self, token: int) -> Tensor:
        """Append a token; logits ``[vocab]`` after it.

        Raises:
            DataError: the decoder is full, or holds no prompt.
        """
        if not 0 < self.position < self._plan.length:
            raise DataError(
                f"The decoder holds {self.position} of {self._plan.length} tokens: read a prompt "
                "first, and give a length that holds the prompt and what follows it."
            )
        with torch.inference_mode():
            x = self._plan.embedding(torch.tensor([token]))[0].float().clone()
            if self._stack is None:
                logits = reference.step(self._plan, x, self.position, self._keys, self._values)
            else:
                logits = torch.empty(self._plan.top.stack[0].shape[0])
                self._stack.step(
                    x.data_ptr(), self.position, logits.data_ptr(), torch.get_num_threads()
                )
        self.position += 1
        return logits

    def generate(self, ids: Tensor, new_tokens: int, stop: int | None = None) -> list[int]:
        """The likeliest continuation of a prompt: at most ``new_tokens`` ids, up to ``stop``."""
        logits = self.read(ids)
        made: list[int] = []
        while len(made) < new_tokens:
            made.append(int(logits.argmax()))
            if made[-1] == stop or len(made) == new_tokens:
                break
            logits = self.step(made[-1])
        return made
