"""The page's words: settings, notes, and the headline, from what a run measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gossamer.core import sites
from gossamer.jobs.artefact import layout_choice
from gossamer.jobs.inputs import PROMPT, Inputs
from gossamer.jobs.job import FrontierJob
from gossamer.jobs.page import Report
from gossamer.jobs.page.story import headline, judge
from gossamer.jobs.plan import Plan
from gossamer.jobs.race import Race
from gossamer.jobs.record import Record
from gossamer.measure.ways import DECODER

_SURE = (
    "Every pruned model was saved, loaded again from its folder, and measured as loaded; nothing "
    "is simulated with masks.",
    "All models decoded in turn, round after round, in one session, so that a busy machine slows "
    "all alike. Faster or slower is said only where the interval of the median ratio lies beyond "
    "one by more than 2%.",
    "Perplexity uses the stored bfloat16 weights in float32 arithmetic, on windows that do not "
    "overlap; the first token of a window is not scored.",
)


def describe(
    job: FrontierJob, inputs: Inputs, plan: Plan, records: Sequence[Record], raced: Race,
    course: tuple[float, tuple[str, ...]],
) -> tuple[Report, str]:
    """The report of a run and its headline, in two sentences.

    Args:
        job: what was asked for.
        inputs: the dense model and the texts.
        plan: what it was measured with.
        records: all rows, timed.
        raced: the session that timed them.
        course: minutes that the run took, and what happened on the way.
    """
    minutes, events = course
    rounds = max((len(t.seconds_per_token) for t in raced.timed.values()), default=0)
    scored = plan.windows * (plan.window - 1)
    settings = {
        **inputs.about,
        "calibration": f"{plan.sequences} sequences of {plan.length} tokens, seed {job.seed}",
        "evaluation": f"{plan.windows} windows of {plan.window} tokens, {scored:,} scored",
        "timing": f"batch 1, prompt of {raced.prompt_tokens} tokens, {raced.new_tokens} new "
                  f"tokens, {rounds} interleaved rounds",
        "stored as": "bfloat16, each matrix in the smallest lossless layout" + (
            " that gossamer's Decoder reads" if layout_choice(inputs) == "decode" else ""),
        "budget": f"{job.budget_minutes:g} minutes; this run took {minutes:.1f}",
        "model": f"{inputs.loaded.name} from {inputs.loaded.source}",
    }
    notes = (*_SURE, *_cautions(inputs, plan, records), *events)
    report = Report(
        inputs.loaded.name, tuple(records), raced.env, settings,
        job.command(plan.tokens), PROMPT, notes, job.limit)
    return report, " ".join(headline(judge(records, job.limit), job.limit))


def _cautions(inputs: Inputs, plan: Plan, records: Sequence[Record]) -> list[str]:
    """What limits the figures of this run."""
    found = sites(inputs.model)
    pruned = sum(site.shape[0] * site.shape[1] for site in found)
    every = sum(parameter.numel() for parameter in inputs.model.parameters())
    cautions = [
        f"Pruned are the matrices inside the model's blocks, {pruned / every:.0%} of its weights; "
        "embeddings, norms and the head stay dense and are counted in bytes and time.",
        "The size of dense fp32 on disk is that of its weights in memory; all other sizes are "
        "those of files.",
    ]
    errors = [
        error / value for r in records if not r.failed
        if (error := r.point.value("quality.perplexity_error")) is not None
        and (value := r.point.value("quality.perplexity"))
    ]
    if errors:
        cautions.append(
            f"On so many tokens a perplexity has a standard error of {min(errors):.0%} to "
            f"{max(errors):.0%} over other passages of such text; two models on the same tokens "
            "compare more closely."
        )
    if plan.threads == 1 and torch.get_num_threads() > 1:
        cautions.append(
            f"One thread was used, because {torch.get_num_threads()} were slower: other programs "
            "kept the cores busy. Times on an idle machine will differ."
        )
    widest = max(site.shape[1] for site in found)
    if plan.tokens < widest:
        cautions.append(
            f"Calibration used {plan.tokens:,} tokens, fewer than the width of the widest matrix "
            f"({widest:,}), too few for its second moments; a larger budget treats systems that "
            "use them more fairly."
        )
    return cautions + _kernel_notes(records)


def _kernel_notes(records: Sequence[Record]) -> list[str]:
    """Which way each model was decoded, with which kernels, and where there was none."""
    used: dict[tuple[str, str], list[str]] = {}
    for record in records:
        if way := str(record.point.data.get("decoded by", "")):
            key = way, " and ".join(record.point.kernels_used)
            used.setdefault(key, []).append(record.point.label)
    notes = [f"Decoded by {way}, {kernels}: {', '.join(labels)}."
             for (way, kernels), labels in used.items()]
    if DECODER in [way for way, _ in used]:
        notes.insert(0, (
            "gossamer's Decoder takes a token through all blocks in one call; transformers calls "
            "every layer from Python. Pruned models were timed by the quickest way that they "
            "support, the dense one by all, and its fastest form is the baseline."
        ))
    sparse = [name for r in records if not r.baseline for name in r.point.kernels_used]
    if any(name.startswith("reference") for name in sparse):
        notes.append(
            "A reference kernel unpacks the matrix for every product: the bytes are real, the "
            "time is not that of a sparse kernel."
        )
    notes += [
        f"{sum(r.point.fallbacks.values()):,} products of {r.point.label} ran without a kernel "
        f"while it was timed, as dense products of unpacked matrices: "
        f"{'; '.join(r.point.fallbacks)}."
        for r in records if r.point.fallbacks
    ]
    if "torch" in sparse:
        notes.append(
            "Where the kernel is torch's, the model's layers have no packed form here: they are "
            "small on disk, and dense in memory and in time."
        )
    return notes
