"""IndexConfig: how an index keeps its documents, validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import annotated_types as at

from gossamer.core import validate
from gossamer.ops.postings.segment import MOST_DOCUMENTS

__all__ = ["IndexConfig"]


@dataclass(frozen=True)
class IndexConfig:
    """Settings of an index, stored with it.

    Args:
        vocabulary: number of terms; a document or query with a term beyond it is refused. None
            takes whatever terms come, up to 1,048,576.
        weights: how weights are kept: "float16" rounds them to 11 bits, "float32" keeps them.
        segment_documents: the most documents in one segment. Building and merging need memory for
            one segment: about 40 bytes for each term of its documents.
        pending_documents: documents that wait in the catalogue before they go into a segment.
        merge_segments: so many segments of about one size are merged into one.
        merge_deleted: share of deleted documents from which a segment is written anew.
        background: merge in a thread of its own while the index is written to.

    >>> IndexConfig(merge_segments=4).weights
    'float16'
    """

    vocabulary: Annotated[int, at.Ge(1), at.Lt(2**31)] | None = None
    weights: Literal["float16", "float32"] = "float16"
    segment_documents: Annotated[int, at.Ge(1), at.Le(MOST_DOCUMENTS)] = 1 << 20
    pending_documents: Annotated[int, at.Ge(1)] = 8192
    merge_segments: Annotated[int, at.Ge(2), at.Le(64)] = 8
    merge_deleted: Annotated[float, at.Gt(0), at.Le(1)] = 0.25
    background: bool = True

    def __post_init__(self) -> None:
        validate(self)
