"""SparseLLM's alternating solution of a feed-forward part under masks on all its matrices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gossamer.core.errors import DataError
from gossamer.prune.parts.mlp import CANDIDATES
from gossamer.prune.parts.solver import Solved

Prune = Callable[[str, Tensor, Tensor], Solved]
"""(which matrix: "up", "gate" or "down"; weight [out, in]; Gram matrix [in, in]) -> Solved"""

RIDGE = 1e-2
S_STEPS, S_RATE, S_LIMIT = 2, 0.01, 1.0


@dataclass(frozen=True)
class Problem:
    """One feed-forward part with tokens in rows: ``y = down(act(up x))`` or its gated form.

    Args:
        x: ``[tokens, d]`` inputs.
        y: ``[tokens, d]`` outputs of the dense part.
        up, down, gate: ``[out, in]`` dense weights; gate None for the plain form.
        biases: of up, down and gate, None where absent.
        activation: name in `mlp.CANDIDATES`.
    """

    x: Tensor
    y: Tensor
    up: Tensor
    down: Tensor
    gate: Tensor | None
    biases: dict[str, Tensor]
    activation: str


@dataclass(frozen=True)
class Penalties:
    """Weights of the three quadratic terms, and the number of alternations."""

    alpha: float
    beta: float
    gamma: float
    epochs: int = 4


@dataclass(frozen=True)
class Alternation:
    """The best epoch's matrices, and the traces that show how it went.

    Args:
        solved: by "up", "down", "gate".
        losses: real output error ``||y - down(...)||^2`` of every epoch; the first is SparseGPT's.
        steps: penalised loss ``(name, before, after)`` of every closed-form step.
    """

    solved: dict[str, Solved]
    losses: list[float]
    steps: list[tuple[str, float, float]]


def alternate(problem: Problem, penalties: Penalties, prune: Prune) -> Alternation:
    """Prune a feed-forward part by SparseLLM (Bai et al. 2024, arXiv 2402.17946).

    Epoch 0 is plain layer-wise pruning; later epochs refit each matrix to auxiliary
    pre-activations z (and s under the gate) and activations p, prune again, and update p, z, s in
    closed form. The epoch with the least real output error is returned.

    Raises:
        DataError: a penalty that is not positive, or fewer tokens than inputs.
    """
    if min(penalties.alpha, penalties.beta, penalties.gamma) <= 0:
        raise DataError(f"SparseLLM's alpha, beta and gamma must be positive, not {penalties}.")
    if problem.x.shape[0] < problem.x.shape[1]:
        raise DataError(
            f"SparseLLM has {problem.x.shape[0]} tokens for {problem.x.shape[1]} inputs; give at "
            "least as many tokens as inputs, better eight times as many."
        )
    return _State(problem, penalties, prune).run()


class _State:
    def __init__(self, problem: Problem, penalties: Penalties, prune: Prune) -> None:
        self.q, self.k, self.prune = problem, penalties, prune
        self.act = CANDIDATES[problem.activation]
        self.gram = problem.x.t() @ problem.x
        self.dense = {"up": problem.up, "down": problem.down}
        if problem.gate is not None:
            self.dense["gate"] = problem.gate
        self.z = self._affine("up", problem.up)
        self.s = None if problem.gate is None else self._affine("gate", problem.gate)
        self.p = self._inner(self.z, self.s)
        self.steps: list[tuple[str, float, float]] = []

    def run(self) -> Alternation:
        losses: list[float] = []
        best: dict[str, Solved] = {}
        for epoch in range(self.k.epochs):
            weights = self.dense if epoch == 0 else self._refit()
            solved = {
                name: self.prune(name, weight, self.p.t() @ self.p if name == "down" else self.gram)
                for name, weight in weights.items()
            }
            losses.append(self.real_loss(solved))
            if losses[-1] <= min(losses):
                best = solved
            if epoch + 1 < self.k.epochs:
                self._update(solved)
        return Alternation(best, losses, self.steps)

    def real_loss(self, solved: dict[str, Solved]) -> float:
        """``||y - down(act(...))||^2`` with the pruned matrices."""
        gate = solved["gate"].weight if "gate" in solved else None
        s = None if gate is None else self._affine("gate", gate)
        inner = self._inner(self._affine("up", solved["up"].weight), s)
        return float((self.q.y - self._affine("down", solved["down"].weight, inner)).square().sum())

    def _affine(self, name: str, weight: Tensor, x: Tensor | None = None) -> Tensor:
        return nn.functional.linear(self.q.x if x is None else x, weight,
                                    self.q.biases.get(name))

    def _inner(self, z: Tensor, s: Tensor | None) -> Tensor:
        return self.act(z) if s is None else self.act(s) * z

    def _unbiased(self, name: str, value: Tensor) -> Tensor:
        bias = self.q.biases.get(name)
        return value if bias is None else value - bias

    def _refit(self) -> dict[str, Tensor]:
        """Dense matrices that fit the current targets, by ridge regression."""
        weights = {
            "up": ridge(self.q.x, self._unbiased("up", self.z)),
            "down": ridge(self.p, self._unbiased("down", self.q.y)),
        }
        if self.s is not None:
            weights["gate"] = ridge(self.q.x, self._unbiased("gate", self.s))
        return weights

    def _update(self, solved: dict[str, Solved]) -> None:
        weights = {name: part.weight for name, part in solved.items()}
        self._step("p", weights, self._new_p)
        self._step("z", weights, self._new_z)
        if self.s is not None:
            self._step("s", weights, self._new_s)

    def _step(self, name: str, weights: dict[str, Tensor],
              update: Callable[[dict[str, Tensor]], Tensor]) -> None:
        before = self.penalised(weights)
        setattr(self, name, update(weights))
        self.steps.append((name, before, self.penalised(weights)))

    def penalised(self, weights: dict[str, Tensor]) -> float:
        """The loss whose terms the closed forms lower."""
        total = self.k.alpha * (self.z - self._affine("up", weights["up"])).square().sum()
        total += self.k.beta * (
            self.q.y - self._affine("down", weights["down"], self.p)).square().sum()
        total += self.k.gamma * (self.p - self._inner(self.z, self.s)).square().sum()
        if self.s is not None:
            total += self.k.alpha * (
                self.s - self._affine("gate", weights["gate"])).square().sum()
        return float(total)

    def _new_p(self, weights: dict[str, Tensor]) -> Tensor:
        down = weights["down"]
        left = self.k.beta * (down.t() @ down)
        left.diagonal().add_(self.k.gamma)
        right = self.k.beta * (self._unbiased("down", self.q.y) @ down)
        right += self.k.gamma * self._inner(self.z, self.s)
        return torch.cholesky_solve(right.t(), torch.linalg.cholesky(left)).t()

    def _new_z(self, weights: dict[str, Tensor]) -> Tensor:
        target = self._affine("up", weights["up"])
        alpha, gamma = self.k.alpha, self.k.gamma
        if self.s is not None:
            a = self.act(self.s)
            return (alpha * target + gamma * a * self.p) / (alpha + gamma * a.square())
        if self.q.activation == "relu":
            return relu_step(target, self.p, alpha, gamma)
        return gradient_step(self.z, lambda z: alpha * (z - target).square()
                             + gamma * (self.p - self.act(z)).square())

    def _new_s(self, weights: dict[str, Tensor]) -> Tensor:
        target = self._affine("gate", weights["gate"])
        assert self.s is not None
        return gradient_step(self.s, lambda s: self.k.alpha * (s - target).square()
                             + self.k.gamma * (self.p - self.act(s) * self.z).square())


def relu_step(target: Tensor, p: Tensor, alpha: float, gamma: float) -> Tensor:
    """Per element, the z of least ``alpha (z - m)^2 + gamma (p - relu(z))^2``."""
    positive = ((gamma * p + alpha * target) / (gamma + alpha)).clamp_min(0)
    negative = target.clamp_max(0)

    def loss(z: Tensor) -> Tensor:
        return alpha * (z - target).square() + gamma * (p - z.clamp_min(0)).square()

    return torch.where(loss(positive) <= loss(negative), positive, negative)


def gradient_step(start: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Two clipped gradient steps on a per-element loss; elements that would get worse stay."""
    current = start
    before = loss(start)
    with torch.enable_grad():
        for _ in range(S_STEPS):
            leaf = current.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(leaf).sum(), leaf)
            current = leaf.detach() - (S_RATE * slope).clamp(-S_LIMIT, S_LIMIT)
    return torch.where(loss(current) < before, current, start)


def ridge(x: Tensor, y: Tensor) -> Tensor:
    """``[out, in]`` W of least ``||y - x W^T||^2 + r ||W||^2``, r = 0.01 of the mean power."""
    gram = x.t() @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    return torch.cholesky_solve(x.t() @ y, torch.linalg.cholesky(gram)).t()
