"""Values that everything else is made of: patterns, budgets, supports, sites and errors."""

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
    columns,
    nm,
    parse_pattern,
    rows,
    unstructured,
)
from gossamer.core.select import select
from gossamer.core.sites import Site, blocks, sites
from gossamer.core.support import Support
from gossamer.core.validate import validate

__all__ = [
    "ConfigError", "DataError", "GossamerError", "Keep", "NeedsError", "Pattern", "PatternError",
    "Site", "StoreError", "Support", "SupportError", "UnsupportedError", "block", "blocks",
    "columns", "nm", "parse_pattern", "rows", "select", "sites", "unstructured", "validate",
]
