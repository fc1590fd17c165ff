"""MobileNet: its size is the published one, folding and packing leave what it computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gossamer.core import ConfigError, sites
from gossamer.edit import Swap, apply
from gossamer.measure import operations
from gossamer.models.mobilenet import SMALL, MobileNet, fold_batchnorm
from gossamer.ops import PackedConv2d
from gossamer.ops.conv import RELU6


def trained_looking(model: MobileNet) -> MobileNet:
    """Norms with statistics as after training, so that folding has something to fold."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def test_the_size_is_the_published_one() -> None:
    model = MobileNet()
    assert sum(p.numel() for p in model.parameters()) == 4_231_976
    work = operations(model, inputs=torch.zeros(1, 3, 224, 224))
    assert round(work.macs() / 1e6) == 569


@torch.no_grad()
def test_folding_and_packing_leave_what_it_computes() -> None:
    torch.manual_seed(0)
    model = trained_looking(MobileNet(10, 0.5, SMALL, channels=1, stride=1))
    x = torch.randn(2, 1, 24, 24)
    wanted = model(x)
    folded = fold_batchnorm(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(x), wanted, rtol=1e-3, atol=1e-4)
    found = sites(folded, "*pointwise*")
    assert len(found) == len(SMALL)
    apply(folded, [Swap(site, PackedConv2d.from_conv(site.module, layout="csr", bounds=RELU6))
                   for site in found])
    torch.testing.assert_close(folded(x), wanted, rtol=1e-3, atol=1e-4)


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="above zero"):
        MobileNet(10, 0.0)
    with pytest.raises(ConfigError, match="above zero"):
        MobileNet(0)
