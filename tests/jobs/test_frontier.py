"""The main job on a tiny model: what it writes, how it resumes, and what it refuses."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from gossamer import native, store
from gossamer.core import ConfigError, DataError, PatternError, StoreError, UnsupportedError
from gossamer.jobs import FrontierJob, Outcome, Record, frontier
from gossamer.jobs.live import run_live
from gossamer.measure import load_points, perplexity
from gossamer.ops import PackedLinear
from tests import zoo

JOB = FrontierJob(systems=("magnitude", "sparsegpt"), targets=("2:4", "70%"), tokens=512,
                  budget_minutes=0.05)
IDS = ["magnitude-2of4", "sparsegpt-2of4", "magnitude-70", "sparsegpt-70"]


def save_model(folder: Path, model: torch.nn.Module | None = None) -> str:
    """A tiny language model with its tokenizer on disk."""
    (zoo.llama() if model is None else model).save_pretrained(folder)
    zoo.tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> FrontierJob:
    """The job on a tiny model that lies on disk."""
    return dataclasses.replace(JOB, model=save_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def done(tiny: FrontierJob, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished frontier."""
    return frontier(tiny, tmp_path_factory.mktemp("run") / "out")


def seen_points(folder: Path) -> dict[str, dict[str, object]]:
    """Figures that must not depend on when a point was measured."""
    return {p.id: {"quality": dict(p.quality), "disk": p.cost["disk_bytes"]}
            for p in load_points(folder / "points.json")}


def test_everything_is_written(done: Outcome) -> None:
    folder = done.page.parent
    assert {p.name for p in folder.iterdir()} == {
        "frontier.html", "frontier.png", "points.json", "frontier.json", "race.json",
        "crossover.json", "points", "models"}
    ids = [r.point.id for r in done.records]
    assert ids[:2] == ["dense-fp32", "dense-bf16"]
    assert [id for id in ids if not id.startswith("dense")] == IDS
    assert "70%" in done.page.read_text()
    for point in done.points:
        assert len(point.repeats("seconds_per_token")) >= 5
        assert point.env["session"] == done.points[0].env["session"]
        assert point.data["evaluation_tokens"] == 4 * 127
        assert point.kernels_used
        assert point.fallbacks == {}


def test_points_are_those_of_the_saved_models(done: Outcome, tiny: FrontierJob) -> None:
    from gossamer import data
    windows = data.windows(data.read_text("embedded:evaluation"), zoo.tiny_tokenizer(), 128, 4)
    for point in done.points[-4:]:
        folder = done.page.parent / "models" / point.id
        model = store.load(folder)
        assert any(isinstance(m, PackedLinear) for m in model.modules())
        size = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
        assert point.cost["disk_bytes"] == size
        # bfloat16 arithmetic here, float32 there, on the same stored weights
        assert perplexity(model, windows) == pytest.approx(point.quality["perplexity"], rel=0.02)
        expected = 0.5 if "2of4" in point.id else 0.3
        assert point.system["density"] == pytest.approx(expected, abs=0.01)


def test_a_finished_run_is_not_repeated(done: Outcome, tiny: FrontierJob) -> None:
    folder = done.page.parent
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.json")}
    again = frontier(tiny, folder)
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*.json")}
    changed = {p.name for p in before if before[p] != after[p]}
    assert changed == {"points.json"}
    assert [r.point for r in again.records] == [r.point for r in done.records]


def test_every_model_is_timed_the_quickest_way_and_says_so(
    done: Outcome, tmp_path: Path
) -> None:
    job = dataclasses.replace(JOB, model=save_model(tmp_path / "qwen3", zoo.qwen3()),
                              systems=("magnitude",), targets=("70%",))
    fast = frontier(job, tmp_path / "out")
    ways = {p.id: p.data["decoded by"] for p in fast.points}
    assert ways == {
        "dense-fp32": "transformers", "dense-fp32-gossamer": "gossamer's Decoder",
        "dense-bf16": "transformers", "dense-bf16-gossamer": "gossamer's Decoder",
        "magnitude-70": "gossamer's Decoder",
    }
    kernels = {p.id: p.kernels_used for p in fast.points}
    assert kernels["dense-fp32"] == ("torch",)
    assert kernels["dense-fp32-gossamer"] == (f"{native.isa()} kernel for dense float32",)
    assert f"{native.isa()} kernel for bitmask bfloat16" in kernels["magnitude-70"]
    assert "Decoded by gossamer&#39;s Decoder" in fast.page.read_text()
    # Heads of width 8 have no place in the Decoder.
    slow = {p.id: p.data["decoded by"] for p in done.points}
    assert set(slow) == {"dense-fp32", "dense-bf16", "dense-bf16-gossamer", *IDS}
    assert set(slow.values()) == {"transformers"}


def copy_of(done: Outcome, folder: Path) -> Path:
    import shutil
    return Path(shutil.copytree(done.page.parent, folder))


def test_damaged_points_are_measured_again(
    done: Outcome, tiny: FrontierJob, tmp_path: Path
) -> None:
    out = copy_of(done, tmp_path / "out")
    (out / "points" / "sparsegpt-70.json").write_text("{")
    (out / "models" / "magnitude-2of4").rename(out / "models" / "gone")
    made: list[str] = []
    again = frontier(tiny, out, progress=lambda d, n, text: made.append(text.partition(":")[0]))
    assert {"sparsegpt-70", "magnitude-2of4"} <= set(made)
    assert not {"magnitude-70", "sparsegpt-2of4"} & set(made)
    assert len(again.notes) == 2
    for note in again.notes:
        assert note.endswith("its point is measured again.")
        assert note in again.page.read_text()
    assert seen_points(out) == seen_points(done.page.parent)


def test_more_systems_use_what_is_there(
    done: Outcome, tiny: FrontierJob, tmp_path: Path
) -> None:
    out = copy_of(done, tmp_path / "out")
    made: list[str] = []
    more = frontier(dataclasses.replace(tiny, systems=("wanda", "magnitude"), targets=("70%",)),
                    out, progress=lambda d, n, text: made.append(text.partition(":")[0]))
    assert "wanda-70" in made
    assert "magnitude-70" not in made
    assert [r.point.id for r in more.records][-2:] == ["wanda-70", "magnitude-70"]


def test_a_kill_is_resumed_to_the_same_figures(
    done: Outcome, tiny: FrontierJob, tmp_path: Path
) -> None:
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from gossamer.jobs import FrontierJob, frontier\n"
        f"frontier(FrontierJob(**{dataclasses.asdict(tiny)!r}), sys.argv[1])"
    )
    out = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", code, str(out)])
    while child.poll() is None and len(list(out.glob("points/*.json"))) < 3:
        time.sleep(0.005)
    time.sleep(0.03)  # somewhere inside the fourth point
    child.send_signal(signal.SIGKILL)
    child.wait()
    for path in out.glob("points/*.json"):
        json.loads(path.read_text())
    assert not (out / "frontier.html").exists()
    made: list[str] = []
    frontier(tiny, out, progress=lambda d, n, text: made.append(text.partition(":")[0]))
    assert "dense-fp32" not in made
    assert seen_points(out) == seen_points(done.page.parent)


def test_interrupt_leaves_a_valid_state(tiny: FrontierJob, tmp_path: Path) -> None:
    def stop(done: int, total: int, text: str) -> None:
        if text.startswith("sparsegpt-2of4"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frontier(tiny, tmp_path / "out", progress=stop)
    made = sorted(p.stem for p in (tmp_path / "out" / "points").iterdir())
    assert made == ["dense-bf16", "dense-fp32", "magnitude-2of4"]


def test_lines_in_a_pipe_and_a_table_in_a_terminal(
    done: Outcome, tiny: FrontierJob
) -> None:
    for terminal in (False, True):
        pipe = Console(file=io.StringIO(), record=True, width=120, force_terminal=terminal)
        run_live(pipe, tiny, done.page.parent)
        text = pipe.export_text()
        assert ("Magnitude 2:4: sparsity 50%, perplexity" in text) == (not terminal)
        row = re.search(r"SparseGPT 70% +\d+% +[\d.,]+ +[\d.]+ kB +[\d.,]+ *\n", text)
        assert bool(row) == terminal


def test_nan_weights_fail_the_run_with_a_sentence(tmp_path: Path) -> None:
    model = zoo.llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 3] = torch.nan
    job = dataclasses.replace(JOB, model=save_model(tmp_path / "nan", model))
    with pytest.raises(DataError, match="not finite"):
        frontier(job, tmp_path / "out")


def test_one_failing_point_does_not_stop_the_others(
    tiny: FrontierJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gossamer.prune import SparseGPT

    def refuse(*_: object, **__: object) -> None:
        raise DataError("Layer 3 saw NaN.")

    monkeypatch.setattr(SparseGPT, "run", refuse)
    seen: list[Record] = []
    outcome = frontier(tiny, tmp_path / "out", finished=seen.append)
    assert [r.point.id for r in outcome.records if r.failed] == ["sparsegpt-2of4", "sparsegpt-70"]
    assert "Layer 3 saw NaN." in outcome.page.read_text()
    assert not (tmp_path / "out" / "points" / "sparsegpt-70.json").exists()
    with pytest.raises(ConfigError, match="No point could be measured"):
        frontier(dataclasses.replace(tiny, systems=("sparsegpt",)), tmp_path / "other")


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"systems": ("sparsegtp",)}, ConfigError, "did you mean 'sparsegpt'"),
    ({"targets": ("most",)}, ConfigError, "Target 'most'"),
    ({"targets": ("3:7",)}, PatternError, "layers"),
    ({"text": "/no/such/text"}, DataError, "/no/such/text"),
    ({"model": "/no/such/model"}, StoreError, "/no/such/model"),
    ({"tokens": None, "budget_minutes": 0.001}, ConfigError, "budget is too small"),
])
def test_bad_input(
    tiny: FrontierJob, tmp_path: Path, change: dict[str, object], error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        frontier(dataclasses.replace(tiny, **change), tmp_path / "out")
    assert not [*tmp_path.glob("out/*")]  # the folder can be used for another try


def test_short_text_and_foreign_folder(tiny: FrontierJob, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Only a few words.")
    job = dataclasses.replace(tiny, text=str(tmp_path / "short.txt"))
    with pytest.raises(DataError, match="text"):
        frontier(job, tmp_path / "out")
    with pytest.raises(StoreError, match="no frontier"):
        frontier(tiny, tmp_path)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    job = dataclasses.replace(JOB, model=save_model(tmp_path / "bert", zoo.bert()))
    with pytest.raises(UnsupportedError, match="causal language models"):
        frontier(job, tmp_path / "out")


def test_own_text_is_split_so_that_the_end_is_held_out(tiny: FrontierJob, tmp_path: Path) -> None:
    from gossamer.jobs.inputs import load_inputs
    words = " ".join(f"word{i}" for i in range(3000))
    (tmp_path / "own.txt").write_text(words)
    inputs = load_inputs(dataclasses.replace(tiny, text=str(tmp_path / "own.txt")))
    assert inputs.calibration + inputs.evaluation == words
    assert 0.69 < len(inputs.calibration) / len(words) < 0.71
    assert inputs.evaluation.startswith(" word")
    assert "last 30%" in inputs.about["evaluation text"]
