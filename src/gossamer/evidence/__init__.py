"""One script a system that shows, on real input and against a baseline, that the system works.

The script of system ``<id>`` is the module ``gossamer.evidence.<family>.<id>`` (dashes written
as underscores) with ``run(seed, device, scale="quick", data=None) -> Evidence``.
"""

from gossamer.evidence.page import evidence_page
from gossamer.evidence.record import Evidence, Outcome, Scale
from gossamer.evidence.runner import Script, run_evidence, scripts

__all__ = ["Evidence", "Outcome", "Scale", "Script", "evidence_page", "run_evidence", "scripts"]
