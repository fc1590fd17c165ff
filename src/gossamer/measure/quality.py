"""Perplexity of a causal language model on non-overlapping windows of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gossamer.core import DataError, UnsupportedError

Progress = Callable[[int, int, str], None]

_LOGIT_BYTES = 64 << 20  # at most this much memory for one chunk of logits
_PROBE = 8  # tokens on which a split-off head is compared with the model's own logits


def perplexity(
    model: nn.Module, windows: Tensor, batch: int = 1, progress: Progress | None = None
) -> float:
    """exp(total negative log-likelihood / tokens), each window scored on its own.

    The first token of a window has no context and is not scored, so ``windows`` of shape
    ``[n, length]`` give exactly ``n * (length - 1)`` scored tokens.

    Args:
        model: a causal language model that returns logits ``[batch, length, vocabulary]``, as a
            tensor or as the ``logits`` of a transformers output.
        windows: int64 token ids ``[n, length]``.
        batch: windows in one forward pass.
        progress: called with (windows done, windows in all, text).

    Raises:
        DataError: no tokens, or a loss that is not finite (the window is named).

    >>> model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 4))
    >>> _ = [nn.init.zeros_(parameter) for parameter in model.parameters()]
    >>> round(perplexity(model, torch.zeros(2, 5, dtype=torch.long)), 4)  # a uniform guess of 4
    4.0
    """
    losses = token_losses(model, windows, batch, progress)
    mean = float(losses.double().mean())
    if mean > 700:  # exp would overflow a double
        raise DataError(f"The mean loss is {mean:.3g} nats a token, so the perplexity overflows.")
    return math.exp(mean)


def token_losses(
    model: nn.Module, windows: Tensor, batch: int = 1, progress: Progress | None = None
) -> Tensor:
    """Negative log-likelihood in nats of every scored token: float32 ``[n, length - 1]``, on CPU.

    Two models on the same windows can so be compared token by token. See `perplexity`.
    """
    _check_windows(windows, batch)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return _losses(model, windows, batch, progress)
    finally:
        model.train(was_training)


def _check_windows(windows: Tensor, batch: int) -> None:
    if windows.dim() != 2 or windows.is_floating_point():
        raise DataError(
            f"Windows must be token ids of shape [n, length], not {windows.dtype} of shape "
            f"{tuple(windows.shape)}."
        )
    if windows.shape[0] < 1 or windows.shape[1] < 2:
        raise DataError(
            f"Windows of shape {tuple(windows.shape)} hold nothing to score: at least one window "
            "of two tokens is needed."
        )
    if batch < 1:
        raise DataError(f"A batch must hold at least one window, not {batch}.")


def _losses(
    model: nn.Module, windows: Tensor, batch: int, progress: Progress | None
) -> Tensor:
    device = next(model.parameters()).device
    count = windows.shape[0]
    losses = torch.empty(count, windows.shape[1] - 1)
    split = _split(model, windows[:1, :_PROBE].to(device))
    for start in range(0, count, batch):
        part = windows[start : start + batch].to(device)
        if split is None:
            loss = _cross_entropy(_logits(model(part)), part[:, 1:])
        else:
            loss = _chunked(*split, part)
        losses[start : start + batch] = loss.cpu()
        bad = ~torch.isfinite(loss).all(1)
        if bool(bad.any()):
            window = start + int(bad.nonzero()[0])
            raise DataError(
                f"The loss on window {window} is not finite: the model's weights or activations "
                "hold NaN or infinity there."
            )
        if progress is not None:
            progress(min(start + batch, count), count, "perplexity")
    return losses


def _split(model: nn.Module, probe: Tensor) -> tuple[nn.Module, nn.Module] | None:
    """The body and the head, where head(body(x)) gives exactly the model's own logits.

    Models that scale or cap their logits fail this comparison and are scored as a whole.
    """
    prefix = getattr(model, "base_model_prefix", "")
    body = getattr(model, prefix, None) if prefix else None
    getter = getattr(model, "get_output_embeddings", None)
    head = getter() if callable(getter) else None
    if not isinstance(body, nn.Module) or not isinstance(head, nn.Module):
        return None
    hidden = _hidden(body(probe))
    own = _logits(model(probe))
    scale = float(own.abs().max())
    if hidden is None or hidden.dim() != 3 or not math.isfinite(scale):
        return None
    apart = head(hidden)
    same = apart.shape == own.shape and bool(
        torch.allclose(apart.float(), own.float(), rtol=1e-4, atol=1e-4 * scale)
    )
    return (body, head) if same else None


def _chunked(body: nn.Module, head: nn.Module, tokens: Tensor) -> Tensor:
    """Losses ``[batch, length - 1]`` with the head applied to a few positions at a time."""
    hidden = _hidden(body(tokens))
    if hidden is None:
        raise UnsupportedError(f"{type(body).__name__} returned no hidden states to score.")
    flat = hidden[:, :-1].flatten(0, 1)  # [batch * (length - 1), width]
    targets = tokens[:, 1:].flatten()
    vocabulary = head(flat[:1]).shape[-1]
    step = max(1, _LOGIT_BYTES // (4 * vocabulary))
    parts = [
        _cross_entropy(head(flat[i : i + step])[None], targets[None, i : i + step], shifted=True)
        for i in range(0, flat.shape[0], step)
    ]
    return torch.cat(parts, 1).view(tokens.shape[0], tokens.shape[1] - 1)


def _cross_entropy(logits: Tensor, targets: Tensor, shifted: bool = False) -> Tensor:
    """-log softmax(logits)[target], in float32: logits ``[batch, length, vocabulary]``."""
    if logits.dim() != 3:
        raise UnsupportedError(
            f"Perplexity needs logits [batch, length, vocabulary], not {tuple(logits.shape)}."
        )
    used = logits if shifted else logits[:, :-1]
    if int(targets.max()) >= used.shape[-1] or int(targets.min()) < 0:
        raise DataError(
            f"A token id lies outside the model's vocabulary of {used.shape[-1]}: the windows "
            "were made with another tokenizer."
        )
    loss = torch.nn.functional.cross_entropy(
        used.flatten(0, 1).float(), targets.flatten(), reduction="none"
    )
    return loss.view(targets.shape)


def _logits(output: object) -> Tensor:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise UnsupportedError(
            f"Perplexity needs a model that returns logits; this one returned "
            f"{type(output).__name__}."
        )
    return logits


def _hidden(output: object) -> Tensor | None:
    found = getattr(output, "last_hidden_state", None)
    return found if isinstance(found, Tensor) else None
