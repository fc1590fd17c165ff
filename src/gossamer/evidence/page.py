"""The evidence page: every claim with its verdict and figures, in one self-contained file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from gossamer.evidence.record import Outcome

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2430; background: #fff; }
section { border: 1px solid #d5dbe3; border-radius: 8px; padding: .5rem 1.2rem; margin: 1rem 0; }
table { border-collapse: collapse; margin: .5rem 0; } td { padding: .1rem 1.2rem .1rem 0; }
td + td { font-variant-numeric: tabular-nums; }
.holds { color: #11713c; } .fails { color: #b3261e; }
"""


def evidence_page(outcomes: Sequence[Outcome]) -> str:
    """HTML text with one section a run: claim, verdict, baseline and figures."""
    held = sum(outcome.holds for outcome in outcomes)
    sections = "\n".join(_section(outcome) for outcome in outcomes)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<title>gossamer: evidence</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>Evidence</h1><p>{held} of {len(outcomes)} runs hold.</p>\n{sections}\n"
        "</body></html>\n"
    )


def _section(outcome: Outcome) -> str:
    title = f"{outcome.id}, seed {outcome.seed}"
    place = f"{outcome.scale} run on {outcome.device}"
    if outcome.evidence is None:
        return (
            f"<section><h2>{escape(title)}</h2><p class='fails'>could not run: "
            f"{escape(outcome.error or '')}</p><p>{escape(place)}</p></section>"
        )
    found = outcome.evidence
    css, word = ("holds", "holds") if found.holds else ("fails", "does not hold")
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>"
        for name, text in flat_figures(found.figures)
    )
    return (
        f"<section><h2>{escape(title)}: <span class='{css}'>{word}</span></h2>"
        f"<p>{escape(found.claim)}</p><p>{escape(found.because)}</p>"
        f"<p>Compared with {escape(found.baseline)}; {escape(place)}, {found.seconds:.1f} s.</p>"
        f"<table>{rows}</table></section>"
    )


def flat_figures(figures: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Nested figures as ``(dotted name, text)``, numbers at four significant digits."""
    if isinstance(figures, dict):
        for key, value in figures.items():
            yield from flat_figures(value, f"{name}.{key}" if name else str(key))
    elif isinstance(figures, (list, tuple)):
        yield name, ", ".join(_text(value) for value in figures)
    else:
        yield name, _text(figures)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
