"""One of two processes that train an edited model together; run by test_ddp."""

from __future__ import annotations

import sys

import torch
from torch import distributed, nn

from gossamer.core import Keep, rows, select, sites
from gossamer.edit import Project, apply


def main(rank: int, meeting: str) -> None:
    """Start with other weights and other masks on each rank; rank 0's must hold on both."""
    distributed.init_process_group("gloo", f"file://{meeting}", world_size=2, rank=rank)
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
    edits = [Project(site, select(torch.rand(site.shape), rows(), Keep.fraction(0.5)))
             for site in sites(model)]
    handle = apply(model, edits, optimizer=optimizer)
    before = model[0].weight_pruned.clone()
    parallel = nn.parallel.DistributedDataParallel(model)
    for _ in range(10):
        optimizer.zero_grad()
        parallel(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
        handle.check()
    for tensor in (model[0].weight.detach(), model[0].weight_pruned, model[2].weight_pruned):
        first, second = torch.empty_like(tensor), torch.empty_like(tensor)
        distributed.all_gather([first, second], tensor)
        assert torch.equal(first, second), "the ranks drifted apart"
    assert torch.equal(before, model[0].weight_pruned) == (rank == 0)
    distributed.destroy_process_group()
    print("agreed")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
