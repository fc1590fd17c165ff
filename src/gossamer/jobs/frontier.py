"""frontier: which sparsity buys what on this model, on this machine."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gossamer import __version__
from gossamer.core import ConfigError, GossamerError, NeedsError, parse_pattern, sites
from gossamer.core.atomic import write_text
from gossamer.jobs.artefact import (
    DTYPE,
    Ground,
    dense_record,
    half_record,
    pruned_record,
)
from gossamer.jobs.crossover import crossover_seconds, layer_crossover, main_shape
from gossamer.jobs.entrants import FULL, HALF, entrants, with_own, with_times
from gossamer.jobs.inputs import Inputs, load_inputs, text_hash
from gossamer.jobs.job import FrontierJob, build_system, point_id
from gossamer.jobs.page import render
from gossamer.jobs.page.picture import draw
from gossamer.jobs.plan import Plan, make_plan, quickest, threads
from gossamer.jobs.race import Race, race
from gossamer.jobs.record import Record
from gossamer.jobs.report import describe
from gossamer.jobs.state import (
    State,
    digest,
    open_state,
    read_json,
    save_plan,
    save_record,
    saved_plan,
    saved_record,
)
from gossamer.jobs.target import Target
from gossamer.measure import Crossover, Point, save_points

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """What a frontier left behind.

    Args:
        records: dense baselines and points, with all their figures.
        headline: the verdict in two sentences.
        page: the page that shows everything.
        notes: what happened on the way, such as a damaged point that was measured again.
    """

    records: tuple[Record, ...]
    headline: str
    page: Path
    notes: tuple[str, ...]

    @property
    def points(self) -> list[Point]:
        """The figures."""
        return [record.point for record in self.records if not record.failed]


def frontier(
    job: FrontierJob | None = None,
    out: str | Path = "frontier-out",
    resume: bool = True,
    progress: Progress | None = None,
    finished: Callable[[Record], None] | None = None,
) -> Outcome:
    """Prune, pack and measure a model in several ways; write page, picture and points.

    Every finished point is kept at once. A run that was stopped goes on where it was when it is
    called again with the same job and folder.

    Args:
        job: model, systems, targets, texts and budget; the default is SmolLM2 with three systems
            at three targets in five minutes.
        out: a new folder, or that of an earlier run: frontier.html, frontier.png, points.json,
            and under models/ every saved model.
        resume: use what an earlier run finished; False starts over.
        progress: called with (tenths of seconds done, planned, text).
        finished: called with every record when it is there, and again when it has been timed.

    Raises:
        ConfigError: unknown system or target, or a budget that is too small.
        PatternError: a pattern that does not fit a layer (which is named).
        DataError: a text that is missing or too short.
        StoreError: a folder that holds something else, or cannot be written.
    """
    begun = time.monotonic()
    job = job or FrontierJob()
    run = _Run(job, job.points(), begun, progress or _silent, finished or _unseen)
    _need("jinja2", "matplotlib")
    state = open_state(Path(out), job, resume)
    inputs = load_inputs(job)
    run.check_patterns(inputs)
    plan, ground = run.plan(state, inputs)
    run.expect(plan)
    with threads(plan.threads):
        records = [*run.baselines(state, ground), *run.pruned(state, ground)]
        failed = [record for record in records if record.failed]
        if len(failed) == len(run.points):
            raise ConfigError(f"No point could be measured: {failed[0].failed}")
        timed, raced = run.timed(state, ground, plan, records)
        layer = run.layer(state, inputs)
    return run.write(state, inputs, plan, (timed, raced, layer))


class _Run:
    """One run of a job: its clock, its notes, and the steps in order."""

    def __init__(
        self, job: FrontierJob, points: list[tuple[str, Target]], begun: float,
        progress: Progress, finished: Callable[[Record], None],
    ) -> None:
        self.job, self.points, self.begun = job, points, begun
        self._progress, self._finished = progress, finished
        self.notes: list[str] = []
        self._expected: dict[str, float] = {}
        self._done = 0.0

    def check_patterns(self, inputs: Inputs) -> None:
        """Raise PatternError before the long part where a layer does not fit a pattern."""
        for pattern in {t.pattern for _, t in self.points if t.pattern}:
            for site in sites(inputs.model):
                parse_pattern(pattern).fits(*site.shape, site.name)

    def plan(self, state: State, inputs: Inputs) -> tuple[Plan, Ground]:
        """The plan of an earlier run of the same job, or a new one from a quick timing."""
        every = inputs.windows()
        known = saved_plan(state, self.job)
        plan = Plan.from_json(known) if known else None
        if plan is None:
            self._progress(0, 1, "timing the model")
            left = 60 * self.job.budget_minutes - (time.monotonic() - self.begun)
            left -= crossover_seconds(self.job.budget_minutes)
            timed = quickest(inputs.model, every[:1])
            plan = make_plan(timed, [system for system, _ in self.points], left,
                             (every.shape[1], every.shape[0]), self.job.tokens)
            save_plan(state, self.job, plan.to_json())
        tokens = inputs.sequences(plan, self.job.seed)
        return plan, Ground(inputs, tokens, every[: plan.windows], self.job.seed)

    def expect(self, plan: Plan) -> None:
        """Take the plan's seconds as the measure of progress."""
        setup = plan.setup_seconds / 2
        self._expected = {
            FULL: setup, HALF: setup, "race": plan.race_seconds,
            "layer": crossover_seconds(self.job.budget_minutes),
            **{point_id(s, t): plan.point_seconds.get(s, setup) for s, t in self.points},
        }

    def baselines(self, state: State, ground: Ground) -> Iterator[Record]:
        """The dense model in both widths."""
        yield self._kept(state, FULL, {"dtype": "float32"}, ground,
                         lambda step: dense_record(ground, step))
        yield self._kept(state, HALF, {"dtype": "bfloat16"}, ground,
                         lambda step: half_record(ground, state.model(HALF), step))

    def pruned(self, state: State, ground: Ground) -> Iterator[Record]:
        """Every point; one that fails says why and does not stop the others."""
        for system, target in self.points:
            id = point_id(system, target)
            config = {"system": system, "config": repr(build_system(system, target))}

            def make(step: Callable[[float, str], None], system: str = system,
                     target: Target = target, id: str = id) -> Record:
                return pruned_record(ground, system, target, state.model(id), step)

            yield self._kept(state, id, config, ground, make)

    def _kept(
        self, state: State, id: str, config: dict[str, str], ground: Ground,
        make: Callable[[Callable[[float, str], None]], Record],
    ) -> Record:
        """A record from an earlier run with the same settings, or a new one."""
        key = digest([__version__, ground.inputs.loaded.source, config, ground.seed,
                      text_hash(ground.tokens), text_hash(ground.windows), str(DTYPE)])
        record, why = saved_record(state, id, key)
        if record is not None and id != FULL and not state.model(id).is_dir():
            record, why = None, f"the saved model of {id} is gone; its point is measured again"
        if why:
            self.notes.append(why[0].upper() + why[1:] + ".")
        if record is None:
            try:
                record = make(lambda share, text: self._step(id, share, text))
                save_record(state, id, key, record)
            except GossamerError as error:
                if id in (FULL, HALF):
                    raise
                record = self._failure(id, error)
        self._done += self._expected.get(id, 0.0)
        self._finished(record)
        return record

    def _failure(self, id: str, error: GossamerError) -> Record:
        system, target = next(p for p in self.points if point_id(*p) == id)
        about = {"id": id, "label": f"{system} {target.text}", "system": system, "title": system,
                 "target": target.text, "density": target.density}
        self.notes.append(f"{system} {target.text} failed: {error}")
        return Record(Point(about), failed=str(error))

    def _step(self, id: str, share: float, text: str) -> None:
        total = sum(self._expected.values())
        done = self._done + share * self._expected.get(id, 0.0)
        self._progress(int(10 * done), max(1, int(10 * total)), f"{id}: {text}")

    def timed(
        self, state: State, ground: Ground, plan: Plan, records: list[Record]
    ) -> tuple[list[Record], Race]:
        """The records with the times of one race; an earlier race of the same models counts."""
        alive = [record for record in records if not record.failed]
        key = digest([[record.to_json() for record in alive], plan.race_seconds])
        found = read_json(state.folder / "race.json") or {}
        raced = Race.from_json(found.get("race")) if found.get("key") == key else None
        if raced is None:
            loaders = entrants(state, ground, alive)
            vocabulary = int(ground.windows.max()) + 1
            raced = race(loaders, vocabulary, plan.race_seconds,
                         lambda share, text: self._step("race", share, f"timing {text}"))
            write_text(state.folder / "race.json",
                       json.dumps({"key": key, "race": raced.to_json()}, indent=1) + "\n")
        self._done += self._expected.get("race", 0.0)
        made = [with_times(record, raced) for record in with_own(records, raced)]
        for record in made:
            self._finished(record)
        return made, raced

    def layer(self, state: State, inputs: Inputs) -> Crossover:
        """Where sparse begins to pay for the model's main shape of layer."""
        seconds = crossover_seconds(self.job.budget_minutes)
        found = layer_crossover(state, main_shape(inputs.model), seconds,
                                lambda share, text: self._step("layer", share, text))
        self._done += self._expected.get("layer", 0.0)
        return found

    def write(
        self, state: State, inputs: Inputs, plan: Plan,
        measured: tuple[list[Record], Race, Crossover],
    ) -> Outcome:
        """Points, page and picture."""
        records, raced, layer = measured
        self._step("page", 0.0, "writing")
        minutes = (time.monotonic() - self.begun) / 60
        report, headline = describe(
            self.job, inputs, plan, records, raced, (minutes, tuple(self.notes)))
        report = replace(report, crossover=layer)
        save_points(state.folder / "points.json",
                    [record.point for record in records if not record.failed])
        draw(report, state.folder / "frontier.png")
        write_text(state.folder / "frontier.html", render(report))
        total = max(1, int(10 * sum(self._expected.values())))
        self._progress(total, total, "done")
        return Outcome(tuple(records), headline, state.folder / "frontier.html",
                       tuple(self.notes))


def _need(*packages: str) -> None:
    """Raise NeedsError at once where the page could not be written at the end."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NeedsError(
                f'A frontier draws a page and needs {package}: pip install "gossamer[report]".')


def _silent(done: int, total: int, text: str) -> None:
    """No report."""


def _unseen(record: Record) -> None:
    """Nobody looks."""
