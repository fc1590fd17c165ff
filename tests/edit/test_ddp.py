"""Project under DistributedDataParallel: two processes keep the same zeros."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import distributed


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_two_ranks_that_disagree_follow_the_first(tmp_path: Path) -> None:
    worker = Path(__file__).with_name("ddp_worker.py")
    ranks = [
        subprocess.Popen([sys.executable, str(worker), str(rank), str(tmp_path / "meeting")],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [text.splitlines()[-1:] for text in said] == [["agreed"], ["agreed"]], "\n".join(said)
