"""The compiled module: forced instruction sets, no read outside a buffer, no folded load."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from gossamer import native
from gossamer.core import (
    Keep,
    Support,
    block,
    channel_groups,
    group_nm,
    nm,
    rows,
    select,
    unstructured,
)
from gossamer.layout import Packed, pack
from gossamer.ops import linear

pytestmark = pytest.mark.skipif(native.core is None, reason="needs the compiled kernels")


@pytest.mark.parametrize("name", ["plain", "nonsense"])
def test_the_environment_forces_an_instruction_set(name: str) -> None:
    code = "from gossamer import native; print(native.isa())"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"GOSSAMER_ISA": name})
    assert out.stdout.strip() == (name if name in native.isas() else native.isas()[-1])


def test_instruction_sets_are_listed_narrowest_first() -> None:
    assert native.isas()[0] == "plain"
    assert native.isas() == [n for n in ("plain", "avx2", "avx512") if n in native.isas()]


@contextmanager
def walls(data: Tensor, at_end: bool) -> Iterator[Tensor]:
    """A copy of the tensor right before (or after) a page that may not be read."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    page, size = mmap.PAGESIZE, data.numel() * data.element_size()
    pages = (size + page - 1) // page
    start = libc.mmap(None, (pages + 2) * page, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    inside = start + page
    readable = mmap.PROT_READ | mmap.PROT_WRITE
    libc.mprotect(ctypes.c_void_p(inside), ctypes.c_size_t(pages * page), readable)
    place = inside + pages * page - size if at_end else inside
    if size:
        buffer = (ctypes.c_char * size).from_address(place)
        copy = torch.frombuffer(buffer, dtype=torch.uint8).view(data.dtype).view(data.shape)
        copy.view(torch.uint8).copy_(data.contiguous().view(torch.uint8))
    else:
        copy = data
    yield copy
    libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t((pages + 2) * page))


def guarded_cases() -> list[Packed]:
    cases = []
    for shape in ((1, 8), (3, 40), (9, 56), (17, 100)):
        weight = torch.randn(shape)
        for dtype in (torch.float32, torch.bfloat16):
            full = Support.full(*shape)
            half = select(weight.abs(), unstructured(), Keep.fraction(0.5))
            even = select(weight.abs(), rows(), Keep.fraction(0.5))
            cases += [pack(weight, s, name, dtype) for name, s in (
                ("dense", full), ("bitmask", half), ("bitmask", full), ("csr", half),
                ("csr", full), ("condensed", even))]
            cases += [pack(weight, select(weight.abs(), p), "nm", dtype)
                      for p in (nm(2, 4), nm(1, 4), nm(3, 4))]
    weight = torch.randn(24, 40)
    for name, pattern in (("bsr", block(8, 8)), ("bsr", block(3, 5)), ("bsr", block(8, 1)),
                          ("channel_groups", channel_groups(8)), ("group_nm", group_nm(2, 4, 3)),
                          ("channel_groups", channel_groups(3)), ("group_nm", group_nm(1, 3, 5))):
        support = select(weight.abs(), pattern, Keep.fraction(0.5))
        cases += [pack(weight, support, name, dtype) for dtype in (torch.float32, torch.bfloat16)]
    return cases


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="maps guard pages as Linux does")
@pytest.mark.parametrize("name", native.isas())
@pytest.mark.parametrize("at_end", [False, True])
def test_no_kernel_reads_outside_its_buffers(name: str, at_end: bool) -> None:
    before = native.isa()
    native.set_isa(name)
    for packed in guarded_cases():
        for batch in (1, 3):
            x = torch.randn(batch, packed.shape[1])
            expected = linear(x, packed)
            parts = dict(packed.parts)
            index = next((n for n in ("bits", "index", "columns", "order") if n in parts), "values")
            with walls(parts["values"], at_end) as values, walls(parts[index], at_end) as places, \
                    walls(x, at_end) as given:
                parts = parts | {index: places} | {"values": values}
                got = linear(given, Packed(packed.layout, packed.shape, parts))
                assert torch.equal(got, expected)
    native.set_isa(before)


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_no_expand_takes_its_values_from_memory() -> None:
    """The memory form of the expand is run from microcode on Zen 4 and 5."""
    assert native.core is not None
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", str(native.core.__file__)],
        capture_output=True, text=True, check=True).stdout
    expands = re.findall(r"v(?:p?expand)\w+\s+(.+)", listing)
    if "file format elf64-x86-64" in listing:
        assert expands, "the AVX-512 kernels are missing from the build"
    assert not [operands for operands in expands if "(" in operands]


def test_reading_touches_every_byte() -> None:
    assert native.core is not None
    for name in native.isas():
        native.set_isa(name)
        for count in (1, 63, 64, 1000, 4097):
            data = torch.zeros(count, dtype=torch.uint8)
            assert native.core.read(data.data_ptr(), count, 2) == 0
            for place in (0, count // 2, count - 1):
                data[place] = 4
                assert native.core.read(data.data_ptr(), count, 1) != 0
                data[place] = 0
    native.set_isa(native.isas()[-1])
