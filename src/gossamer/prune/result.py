"""Result: a pruned model, what was kept, and a report of how it went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from gossamer.core.errors import ConfigError
from gossamer.core.sites import Site, sites
from gossamer.core.support import Support
from gossamer.observe import InMemory, Journal, Source

if TYPE_CHECKING:
    from gossamer.edit import Handle


@dataclass(frozen=True)
class Result:
    """What `run` of a pruning system returns.

    Args:
        model: the pruned module (its own weights changed in place), or for a checkpoint the
            module whose parameters are still on the meta device.
        supports: what is kept, by site name.
        report: JSON-able: system, config, sites (name, shape, density, weight_error,
            output_error), calibration, memory (forecast and peak bytes), seconds.
        source: where the blocks came from.
        journal: the finished blocks on disk, where a work folder was given.
    """

    model: nn.Module
    supports: dict[str, Support]
    report: dict[str, Any]
    source: Source
    journal: Journal | None = None

    @property
    def density(self) -> float:
        """Kept over all weights of the pruned sites."""
        total = sum(s.shape[0] * s.shape[1] for s in self.supports.values())
        return sum(s.nnz for s in self.supports.values()) / max(1, total)

    def project(self, optimizer: torch.optim.Optimizer | None = None) -> Handle:
        """Keep the zeros through fine-tuning: an edit handle that re-zeroes after every step."""
        from gossamer.edit import Project, apply

        return apply(self.model, [Project(site, self.supports[site.name]) for site in self.sites()],
                     optimizer=optimizer)

    def sites(self) -> list[Site]:
        """The pruned sites."""
        return [site for site in sites(self.model) if site.name in self.supports]

    def save(self, folder: str | Path, *, layout: str = "auto", dtype: torch.dtype | None = None,
             tokenizer: Any = None, overwrite: bool = False) -> None:
        """Write the pruned model; packed by default, plain Hugging Face with ``layout="dense"``.

        A model that came from a checkpoint on disk is written tensor by tensor and never held as
        a whole.
        """
        from gossamer import store

        if isinstance(self.source, InMemory):
            store.save(self.model, folder, self.supports, layout=layout, dtype=dtype,
                       tokenizer=tokenizer, system=self.report["config"], report=self.report,
                       overwrite=overwrite)
            return
        if self.journal is None:
            raise ConfigError("Saving a model pruned from disk needs a work folder; give workdir=")
        checkpoint = cast("store.stream.Tensors", self.source)
        store.save_streamed(checkpoint, folder, self.supports, self.finished_weights(),
                            layout=layout, dtype=dtype, tokenizer=tokenizer,
                            system=self.report["config"], report=self.report, overwrite=overwrite)

    def finished_weights(self) -> Iterator[tuple[str, Tensor]]:
        """(site name, weight ``[out, in]``) of every pruned site, one block in memory at a time."""
        if self.journal is None:
            for site in self.sites():
                yield site.name, site.view()
            return
        for index in range(self.journal.done):
            yield from self.journal.block(index).weights.items()
