"""Values that everything else is made of: patterns, budgets, supports, sites, errors."""

from gossamer.core.allocation import SiteSummary, allocate
from gossamer.core.errors import (
    ConfigError,
    DataError,
    GossamerError,
    NeedsError,
    PatternError,
    StoreError,
    SupportError,
    UnsupportedError,
)
from gossamer.core.keep import Keep
from gossamer.core.pattern import (
    Pattern,
    block,
    channel_groups,
    columns,
    group_nm,
    nm,
    parse_pattern,
    rows,
    unstructured,
)
from gossamer.core.select import select
from gossamer.core.sites import Site, blocks, sites
from gossamer.core.sketch import Sketch
from gossamer.core.support import Support
from gossamer.core.validate import validate

__all__ = [
    "ConfigError", "DataError", "GossamerError", "Keep", "NeedsError", "Pattern", "PatternError",
    "Site", "SiteSummary", "Sketch", "StoreError", "Support", "SupportError", "UnsupportedError",
    "allocate", "block", "blocks", "channel_groups", "columns", "group_nm", "nm", "parse_pattern",
    "rows", "select", "sites", "unstructured", "validate",
]
