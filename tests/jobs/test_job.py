"""Targets, jobs, plans and the folder's state, each with its bad input."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gossamer.core import ConfigError, StoreError, sites
from gossamer.jobs import FrontierJob, Record, parse_target
from gossamer.jobs.job import build_system
from gossamer.jobs.plan import LEAST_TOKENS, Plan, Probe, make_plan, quickest, threads
from gossamer.jobs.state import (
    State,
    open_state,
    save_plan,
    save_record,
    saved_plan,
    saved_record,
)
from tests import zoo
from tests.jobs import made

PROBE = Probe(token=0.003, weight=4e-8, weights=106_000_000, mean_width=816.0)
NINE = ["magnitude", "wanda", "sparsegpt"] * 3


def new_state(folder: Path) -> State:
    """A folder that is ready for points."""
    state = open_state(folder, FrontierJob(), resume=True)
    save_plan(state, FrontierJob(), {})
    return state


@pytest.mark.parametrize(("text", "density", "words"), [
    ("70%", 0.3, "sparsity 70%, density 30%"), ("0.3", 0.3, "sparsity 70%, density 30%"),
    ("62.5 %", 0.375, "sparsity 62.5%, density 37.5%"), (".5", 0.5, "sparsity 50%, density 50%"),
    ("2:4", 0.5, "2:4: sparsity 50%, density 50%"), ("1:8", 0.125,
                                                    "1:8: sparsity 87.5%, density 12.5%"),
])
def test_targets(text: str, density: float, words: str) -> None:
    target = parse_target(text)
    assert target.density == density
    assert target.words == words


@given(st.integers(1, 999))
def test_sparsity_and_density_name_the_same_target(tenths: int) -> None:
    assert parse_target(f"{tenths / 10}%") == parse_target(str(round(1 - tenths / 1000, 6)))


@pytest.mark.parametrize("text", ["0%", "100%", "120%", "0", "1", "1.5", "5:4", "4:4", "0:4", "",
                                  "half", "-5%", "2:x"])
def test_bad_targets(text: str) -> None:
    with pytest.raises(ConfigError, match="Target"):
        parse_target(text)


def test_default_job_is_three_systems_at_three_targets() -> None:
    points = FrontierJob().points()
    assert [(s, t.text) for s, t in points[:4]] == [
        ("magnitude", "50%"), ("wanda", "50%"), ("sparsegpt", "50%"), ("magnitude", "2:4")]
    assert len(points) == 9


def test_repeated_targets_count_once() -> None:
    assert len(FrontierJob(systems=("wanda", "wanda"), targets=("50%", "0.5", "2:4")).points()) == 2


def test_systems_are_built_with_their_patterns() -> None:
    assert build_system("magnitude", parse_target("70%")).pattern == "unstructured"
    assert build_system("wanda", parse_target("70%")).pattern == "rows"
    assert build_system("wanda", parse_target("70%")).density == 0.3
    assert build_system("sparsegpt", parse_target("2:4")).pattern == "2:4"


@pytest.mark.parametrize(("fields", "message"), [
    ({"budget_minutes": 0}, "greater than 0"), ({"budget_minutes": -1.0}, "greater than 0"),
    ({"budget_minutes": float("nan")}, "budget"), ({"budget_minutes": float("inf")}, "budget"),
    ({"tokens": 10}, "at least 512"), ({"seed": -1}, "at least 0"), ({"systems": ()}, "systems"),
    ({"targets": ()}, "targets"),
])
def test_bad_jobs(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FrontierJob(**fields)


def test_unknown_system_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'wanda'"):
        FrontierJob(systems=("wonda",))


def test_a_system_that_prunes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="ten-lessons prunes nothing to a density; see"):
        FrontierJob(systems=("wanda", "ten-lessons"))


def test_command_repeats_the_job() -> None:
    job = FrontierJob(model="a model", text="my text.txt", seed=3)
    words = shlex.split(job.command(1024))
    assert words[:3] == ["gossamer", "frontier", "a model"]
    assert words[words.index("--text") + 1] == "my text.txt"
    assert words[words.index("--tokens") + 1] == "1024"


def test_plan_spends_the_budget() -> None:
    small = make_plan(PROBE, NINE, 330, (512, 50))
    large = make_plan(PROBE, NINE, 1200, (512, 50))
    assert LEAST_TOKENS <= small.tokens < large.tokens
    for plan, budget in ((small, 330), (large, 1200)):
        points = 3 * sum(plan.point_seconds.values())
        assert points + plan.setup_seconds + plan.race_seconds <= 1.02 * budget
        assert points > 0.5 * budget
        assert plan.windows >= 1
    huge = make_plan(PROBE, NINE, 1e6, (512, 50))
    assert huge.windows == 50
    assert huge.tokens == 128 * 512


def test_small_budget_says_what_is_least() -> None:
    with pytest.raises(ConfigError, match=r"9 points need about (\d+\.\d) minutes") as caught:
        make_plan(PROBE, NINE, 30, (512, 50))
    least = float(str(caught.value).split("about ")[1].split(" ")[0])
    assert make_plan(PROBE, NINE, 60 * least, (512, 50)).tokens >= LEAST_TOKENS


@given(st.floats(330, 1e6))
def test_the_tokens_of_a_plan_repeat_it(budget: float) -> None:
    plan = make_plan(PROBE, NINE, budget, (512, 50))
    again = make_plan(PROBE, NINE, 1, (512, 50), tokens=plan.tokens)
    assert (again.sequences, again.length, again.windows) == (
        plan.sequences, plan.length, plan.windows)


def test_fixed_tokens_need_no_budget() -> None:
    plan = make_plan(PROBE, NINE, 1, (512, 50), tokens=1024)
    assert plan.tokens == 1024
    assert plan.windows == 2
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert Plan.from_json({"other": 1}) is None


def test_records_survive_their_file(tmp_path: Path) -> None:
    state = new_state(tmp_path / "out")
    record = made.pruned("wanda", "50%")
    save_record(state, "p", "key", record)
    assert saved_record(state, "p", "key") == (record, "")
    assert saved_record(state, "absent", "key") == (None, "")
    found, why = saved_record(state, "p", "other")
    assert found is None
    assert "other settings" in why


@pytest.mark.parametrize("damage", [
    lambda text: text[: len(text) // 2], lambda text: "", lambda text: "[]",
    lambda text: text.replace("50.3", "20.3", 1), lambda text: text.replace('"layers"', '"liars"'),
])
def test_damaged_records_are_never_used(tmp_path: Path, damage: object) -> None:
    state = new_state(tmp_path / "out")
    save_record(state, "p", "key", made.pruned("wanda", "50%"))
    assert callable(damage)
    state.point("p").write_text(damage(state.point("p").read_text()))
    found, why = saved_record(state, "p", "key")
    assert found is None
    assert "damaged" in why


def test_record_json_is_checked() -> None:
    record = made.pruned("sparsegpt", "2:4")
    body = json.loads(json.dumps(record.to_json()))
    assert Record.from_json(body) == record
    del body["sample"]
    with pytest.raises(StoreError, match="sample"):
        Record.from_json(body)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (True, False):
        with pytest.raises(StoreError, match="no frontier"):
            open_state(tmp_path, FrontierJob(), resume)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(StoreError, match="is a file"):
        open_state(tmp_path / "thesis.txt", FrontierJob(), resume=True)


def test_another_models_frontier_is_left_alone(tmp_path: Path) -> None:
    job = FrontierJob(model="a")
    state = open_state(tmp_path / "out", job, resume=True)
    save_plan(state, job, {"x": 1})
    save_record(state, "p", "key", made.pruned("wanda", "50%"))
    (state.folder / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="frontier of 'a'"):
        open_state(state.folder, FrontierJob(model="b"), resume=True)
    open_state(state.folder, FrontierJob(model="b"), resume=False)
    assert not state.point("p").exists()
    assert (state.folder / "notes.txt").read_text() == "mine"


def test_what_a_killed_save_left_is_removed(tmp_path: Path) -> None:
    state = new_state(tmp_path / "out")
    (state.folder / "models" / ".wanda-50.tmp-abc").mkdir(parents=True)
    (state.folder / "models" / "wanda-50").mkdir()
    open_state(state.folder, FrontierJob(), resume=True)
    assert [p.name for p in (state.folder / "models").iterdir()] == ["wanda-50"]


def test_a_plan_holds_for_more_systems_but_not_for_another_budget(tmp_path: Path) -> None:
    job = FrontierJob()
    state = open_state(tmp_path / "out", job, resume=True)
    save_plan(state, job, {"x": 1})
    assert saved_plan(state, dataclasses.replace(job, systems=("wanda",))) == {"x": 1}
    assert saved_plan(state, dataclasses.replace(job, budget_minutes=6)) is None


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    def fail() -> None:
        with threads(3):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [3]
    assert torch.get_num_threads() == before


def test_probe_sees_the_model() -> None:
    found = quickest(zoo.llama(), torch.arange(64)[None])
    assert found.weights == sum(s.shape[0] * s.shape[1] for s in sites(zoo.llama()))
    assert min(found.token, found.weight) > 0
    assert 32 < found.mean_width < 48
