"""Ten Lessons: what a report on a sparse model must state, as checks of the model itself.

Liu, Wang, "Ten Lessons We Have Learned in the New Sparseland: A Short Handbook for Sparse Neural
Network Researchers", 2023, arXiv 2302.02596.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from torch import nn

from gossamer.cards import Card, system
from gossamer.core import validate
from gossamer.core.errors import DataError
from gossamer.store import Inspection, inspect

CARD = Card(
    id="ten-lessons",
    family="prune",
    title="Ten Lessons in the new Sparseland",
    year=2023,
    paper="Liu, Wang, 2023, arXiv 2302.02596",
    keeps="nothing: it checks what is said of a sparse model against what the model holds",
    differs=(
        "the article is prose; its lessons are given here as checks with measured figures",
        "lessons that need training from scratch are explained in the guide and not re-run",
    ),
)


@system(CARD)
@dataclass(frozen=True)
class TenLessons:
    """Check a model or a saved folder; nothing is changed.

    >>> found = TenLessons().run(nn.Sequential(nn.Linear(8, 8)))
    >>> len(found.checks) > 5
    True
    """

    strict: Annotated[bool, "raise DataError on the first claim that is wrong"] = False

    def __post_init__(self) -> None:
        validate(self)

    def run(self, model: nn.Module | str | Path, data: None = None) -> Inspection:
        """Inspect; the findings are in ``checks`` and ``warnings``."""
        found = inspect(model)
        failed = [check for check in found.checks if check.verdict == "fail"]
        if self.strict and failed:
            raise DataError(failed[0].sentence)
        return found
