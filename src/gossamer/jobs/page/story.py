"""What the figures say: verdicts, the headline, and what each loss of quality buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gossamer.jobs.page.scatter import RING, SHAPES, Style
from gossamer.jobs.page.words import TIMES, listed, number, size, times
from gossamer.jobs.record import Record
from gossamer.measure import Point, Verdict, verdict
from gossamer.measure.verdict import LIMIT, is_faster, is_slower

_TOLERANCES = (1.1, 1.25, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Judged:
    """A record with its verdict against the dense baselines and against the other records."""

    record: Record
    verdict: Verdict

    @property
    def point(self) -> Point:
        """The figures."""
        return self.record.point

    @property
    def short(self) -> str:
        """The verdict in a few words."""
        found = self.verdict
        if self.record.failed:
            return "failed"
        if not found.paid:
            if found.gains:
                return "loses too much"
            return "a trade" if found.words.startswith("A trade") else "does not pay"
        smaller = found.bytes_ratio is not None and found.bytes_ratio < 1
        gains = [("bytes", smaller), ("time", is_faster(found.speedup))]
        gained = " and ".join(name for name, true in gains if true)
        return f"pays in {gained}" if not found.beaten_by else "pays, but is beaten"


@dataclass(frozen=True)
class Bargain:
    """The smallest and the fastest record within a loss of quality; None where there is none."""

    tolerance: float
    smallest: Judged | None
    fastest: Judged | None


def judge(records: Sequence[Record], limit: float = LIMIT) -> list[Judged]:
    """A verdict for every pruned record that was measured, in the order given."""
    bases = [r.point for r in records if r.baseline and not r.failed]
    rivals = [r.point for r in records if not r.baseline and not r.failed]
    none = Verdict(False, "")
    return [
        Judged(r, none if r.failed or not bases else verdict(r.point, bases, rivals, limit))
        for r in records if not r.baseline
    ]


def best(judged: Sequence[Judged]) -> Judged | None:
    """The record that pays with the least loss; of those near it in quality, the fastest."""
    paying = [j for j in judged if j.verdict.paid and not j.verdict.beaten_by]
    return min(paying, key=lambda j: j.verdict.quality_ratio or 0.0, default=None)


def nearest(judged: Sequence[Judged]) -> Judged | None:
    """The record with the least loss among those that gain, else among all that were measured."""
    measured = [j for j in judged if j.verdict.quality_ratio is not None]
    gaining = [j for j in measured if j.verdict.gains]
    return min(gaining or measured, key=lambda j: j.verdict.quality_ratio or 0.0, default=None)


def headline(judged: Sequence[Judged], limit: float = LIMIT) -> tuple[str, str]:
    """The answer in one sentence, and a second one with what stands behind it."""
    chosen = best(judged)
    measured = [j for j in judged if not j.record.failed]
    if not measured:
        return "Nothing could be measured.", "Every point failed; the reasons stand below."
    if chosen is None:
        near = nearest(measured)
        none = f"No sparsity pays on this machine within {limit:g}{TIMES} the dense perplexity."
        if near is None:
            return none, "No quality was measured."
        loss = times(near.verdict.quality_ratio)
        return none, f"The nearest is {near.point.label}: {_bought(near)} ({loss})."
    paying = [j.point.label for j in measured if j.verdict.paid]
    others = _others(chosen, paying, len(measured), limit)
    return f"{chosen.point.label} pays: {_bought(chosen)}.", others


def bargains(judged: Sequence[Judged]) -> list[Bargain]:
    """What can be had at each tolerated ratio of perplexities; beaten points are never it."""
    found = []
    judged = [j for j in judged if not j.verdict.beaten_by]
    for tolerance in _TOLERANCES:
        within = [j for j in judged if j.verdict.quality_ratio is not None
                  and j.verdict.quality_ratio <= tolerance]
        small = [j for j in within if (j.verdict.bytes_ratio or 1) < 1]
        fast = [j for j in within if is_faster(j.verdict.speedup)]
        found.append(Bargain(
            tolerance,
            min(small, key=lambda j: j.verdict.bytes_ratio or 1.0, default=None),
            max(fast, key=lambda j: j.verdict.speedup.mid if j.verdict.speedup else 0.0,
                default=None),
        ))
    return found


def styles(records: Sequence[Record]) -> dict[str, Style]:
    """Colour by system, shape by target; dense baselines are rings without colour."""
    pruned = [r.point.system for r in records if not r.baseline]
    systems = list(dict.fromkeys(str(s.get("system")) for s in pruned))
    targets = list(dict.fromkeys(str(s.get("target")) for s in pruned))
    found: dict[str, Style] = {}
    for record in records:
        given = record.point.system
        found[record.point.id] = Style(0, RING) if record.baseline else Style(
            1 + systems.index(str(given.get("system"))) % 6,
            SHAPES[targets.index(str(given.get("target"))) % len(SHAPES)],
        )
    return found


def legend(records: Sequence[Record]) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
    """(system, colour) and (target, shape) of the plots, each once."""
    look = styles(records)
    pruned = [r for r in records if not r.baseline]
    systems = {str(r.point.system.get("title")): look[r.point.id].colour for r in pruned}
    targets = {str(r.point.system.get("target")): look[r.point.id].shape for r in pruned}
    return list(systems.items()), list(targets.items())


def tip(record: Record, judged: Mapping[str, Judged]) -> str:
    """The hover text of a point: figures line by line."""
    point = record.point
    speed = point.value("cost.seconds_per_token")
    lines = [
        point.label, f"perplexity {number(point.value('quality.perplexity'))}",
        f"{size(point.value('cost.disk_bytes'))} on disk",
        f"{number(1 / speed)} tokens/s" if speed else "time not measured",
    ]
    if point.id in judged:
        lines.append(judged[point.id].short)
    return "\n".join(lines)


def _bought(chosen: Judged) -> str:
    found, parts = chosen.verdict, []
    if is_faster(found.speedup) and found.speedup is not None:
        parts.append(f"{times(found.speedup.mid)} the speed")
    if found.bytes_ratio is not None:
        parts.append(f"{times(found.bytes_ratio)} the bytes")
    if is_slower(found.speedup) and found.speedup is not None:
        parts.append(f"{times(found.speedup.mid)} the speed")
    ours = chosen.point.value("quality.perplexity")
    dense = ours / found.quality_ratio if ours and found.quality_ratio else None
    return f"{listed(parts)}, for perplexity {number(ours)} against {number(dense)}"


def _others(chosen: Judged, paying: list[str], measured: int, limit: float) -> str:
    others = [label for label in paying if label != chosen.point.label]
    count = f"Of {measured} points, "
    if others:
        text = count + f"{listed(others)} {'pays' if len(others) == 1 else 'pay'} as well"
    else:
        text = count + "no other one pays"
    rule = f"bytes or time saved, neither lost, perplexity within {limit:g}{TIMES} of dense"
    return f"{text} ({rule})."
