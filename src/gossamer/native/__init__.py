"""The compiled kernels: pointers and shapes in, results written to memory the caller owns."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from gossamer.core import ConfigError
from gossamer.core.errors import unknown


def _load() -> ModuleType | None:
    """The compiled module, or None in a source tree where it was never built."""
    name = "gossamer.native._core"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


core = _load()


def isas() -> list[str]:
    """Instruction sets that the kernels can use on this machine, narrowest first."""
    return list(core.isas()) if core is not None else []


def isa() -> str:
    """The instruction set in force: plain, avx2 or avx512; "absent" without compiled kernels.

    It is the widest that the CPU runs, or the one that the environment variable GOSSAMER_ISA
    named when the module was loaded.
    """
    return str(core.isa()) if core is not None else "absent"


def set_isa(name: str) -> None:
    """Force an instruction set for the whole process, for tests and comparisons.

    Raises:
        ConfigError: this machine does not have it.
    """
    if core is None or not core.set_isa(name):
        raise ConfigError(unknown("instruction set of this machine", name, isas()))
