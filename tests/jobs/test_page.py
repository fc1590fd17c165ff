"""The page, as text and in a real browser without a screen."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gossamer.jobs.page import render
from gossamer.jobs.page.axis import fit_axis
from gossamer.jobs.page.heat import density_maps, error_maps, place, weight_error_maps
from gossamer.jobs.page.labels import Box, place_labels
from gossamer.jobs.page.picture import draw
from gossamer.jobs.page.story import bargains, headline, judge
from gossamer.jobs.page.words import number, size
from gossamer.jobs.record import Record
from tests.jobs import made

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
                 if (path := shutil.which(name))), None)

# Runs the page in frames of two widths, uses it, and writes what it saw into the document.
HARNESS = """<!doctype html><body>{frames}<pre id="seen"></pre><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const seen = {{}};
async function look(frame) {{
  const page = frame.contentDocument, view = frame.contentWindow;
  const visible = (node) => view.getComputedStyle(node.closest("svg")).display !== "none";
  const marks = [...page.querySelectorAll(".plot .mark")].filter(visible);
  const names = () => [...page.querySelectorAll(".points tbody tr")].map((r) => r.dataset.id);
  const before = names();
  const header = [...page.querySelectorAll(".points th button")];
  header.find((b) => b.textContent === "perplexity").click();
  const ascending = names();
  header.find((b) => b.textContent === "perplexity").click();
  marks[0].dispatchEvent(new view.Event("mouseenter"));
  await wait(50);
  const labels = [...page.querySelectorAll(".plot .mark text")].filter(visible)
    .map((node) => node.getBoundingClientRect());
  const cover = (a, b) => Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left))
    * Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)) / (a.width * a.height);
  let crowded = 0;
  labels.forEach((a, i) => labels.slice(i + 1).forEach((b) => {{ crowded += cover(a, b) > 0.2; }}));
  return {{
    ready: page.documentElement.dataset.ready, width: page.documentElement.scrollWidth,
    frame: frame.clientWidth, marks: marks.length, before, ascending, descending: names(),
    tip: page.getElementById("tip").textContent, lit: page.querySelectorAll(".lit").length,
    cells: page.querySelectorAll(".heat rect").length, crowded,
    images: page.querySelectorAll("img").length,
    requests: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    samples: [...page.querySelectorAll(".said")].map((node) => node.textContent),
  }};
}}
addEventListener("load", async () => {{
  for (const frame of document.querySelectorAll("iframe")) {{
    seen[frame.id] = await look(frame);
  }}
  document.getElementById("seen").textContent = JSON.stringify(seen);
}});
</script></body>"""


def browse(page: str, folder: Path, widths: tuple[int, ...]) -> tuple[dict[str, Any], str]:
    """What a browser sees in the page at each width, and its log."""
    assert CHROMIUM is not None
    frames = "".join(
        f'<iframe id="w{width}" style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(page)}"></iframe>' for width in widths)
    harness = folder / "harness.html"
    harness.write_text(HARNESS.format(frames=frames), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
         "--virtual-time-budget=10000", "--dump-dom", harness.as_uri()],
        capture_output=True, text=True, timeout=150, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium browser on the path")
def test_in_a_browser(tmp_path: Path) -> None:
    report = made.report()
    seen, log = browse(render(report), tmp_path, (400, 1280))
    assert "CONSOLE" not in log
    by_quality = sorted(report.records, key=lambda r: r.point.quality["perplexity"])
    for width in (400, 1280):
        page = seen[f"w{width}"]
        assert page["ready"] == "yes"
        assert page["frame"] == width
        assert page["width"] <= width  # nothing sticks out at the side
        # Two plots, in one of two sizes; dense bfloat16 is one mark in bytes, whatever computes it.
        assert page["marks"] == 2 * len(report.records) - 1
        assert page["before"] == [r.point.id for r in report.records]
        assert page["ascending"] == [r.point.id for r in by_quality]
        qualities = {r.point.id: r.point.quality["perplexity"] for r in report.records}
        falling = [qualities[id] for id in page["descending"]]
        assert falling == sorted(falling, reverse=True)
        assert "perplexity" in page["tip"]
        assert page["lit"] >= 3  # the mark in both plots, and the row
        assert page["cells"] == 9 * 210
        assert page["requests"] == []
        assert page["images"] == 0
        assert page["samples"][-1] == made.EVIL
        assert page["crowded"] == 0


def test_nothing_is_fetched_and_all_text_is_escaped() -> None:
    page = render(made.report())
    assert made.EVIL not in page
    assert html.escape(made.EVIL, quote=False)[:20] in page.replace("&#34;", '"')
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!data:)', page)
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_evil_names_are_escaped_everywhere() -> None:
    report = made.report()
    records = []
    for record in report.records:
        system = {**record.point.system, "label": made.EVIL, "title": made.EVIL}
        records.append(record.with_point(dataclasses.replace(record.point, system=system)))
    evil = dataclasses.replace(
        report, records=tuple(records), model=made.EVIL, command=made.EVIL, prompt=made.EVIL,
        settings={made.EVIL: made.EVIL}, notes=(made.EVIL,))
    page = render(evil)
    assert "<img" not in page
    assert "<b>bold</b>" not in page
    assert page.count("</script>") == 1


def test_failed_and_untimed_points_are_shown() -> None:
    report = made.report()
    *others, last = report.records
    failed = Record(last.point, failed="Weights of layer 3 hold NaN.")
    bare = [r.with_point(dataclasses.replace(r.point, cost={"disk_bytes": 1e8})) for r in others]
    page = render(dataclasses.replace(report, records=(*bare, failed)))
    assert "Weights of layer 3 hold NaN." in page
    assert "Against bytes" in page
    assert "Against measured time" not in page


def test_one_system_and_one_target() -> None:
    report = made.report()
    few = dataclasses.replace(report, records=(report.records[0], report.records[-1]))
    assert "SparseGPT 70%" in render(few)


def test_picture(tmp_path: Path) -> None:
    draw(made.report(), tmp_path / "frontier.png")
    from PIL import Image
    with Image.open(tmp_path / "frontier.png") as image:
        assert image.size[0] > 2 * image.size[1]
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_headline_names_the_best_point_that_pays() -> None:
    first, second = headline(judge(made.report().records, 2.0), 2.0)
    assert first == ("SparseGPT 50% pays: 1.31\u00d7 the speed and 0.65\u00d7 the bytes, "
                     "for perplexity 44.7 against 27.6.")
    assert "Wanda 50% pays as well" in second
    assert "within 2\u00d7 of dense" in second


def test_headline_where_nothing_pays() -> None:
    judged = judge(made.report().records)
    first, second = headline(judged)
    assert first == "No sparsity pays on this machine within 1.25\u00d7 the dense perplexity."
    assert second == ("The nearest is SparseGPT 50%: 1.31\u00d7 the speed and 0.65\u00d7 the "
                      "bytes, for perplexity 44.7 against 27.6 (1.62\u00d7).")
    assert {j.short for j in judged} == {"loses too much"}
    assert "1.31\u00d7 the fastest dense form" in render(made.report())  # its tiles


def test_the_nearest_is_one_that_gains() -> None:
    report = made.report()
    kind, lossy = report.records[3].point, report.records[5]
    slow = dataclasses.replace(kind, quality={"perplexity": 28.0}, cost={
        "disk_bytes": 1e9, "seconds_per_token": (1.0,) * 9})
    judged = judge([*report.records[:3], report.records[3].with_point(slow), lossy])
    assert [j.short for j in judged] == ["does not pay", "loses too much"]
    assert headline(judged)[1].startswith("The nearest is SparseGPT 50%")


def test_bargains_grow_with_the_tolerance() -> None:
    found = {b.tolerance: b for b in bargains(judge(made.report().records))}
    assert found[1.5].smallest is None
    assert found[2.0].smallest is not None
    assert found[2.0].smallest.point.label == "SparseGPT 50%"
    assert found[2.0].fastest is not None


def test_labels_do_not_overlap_and_stay_inside() -> None:
    marks = [(100.0, 100.0 + 3 * i) for i in range(6)] + [(300.0, 100.0)]
    frame = Box(0, 0, 400, 300)
    boxes = place_labels(marks, ["a label of a point"] * len(marks), frame)
    assert all(box.inside(frame) for box in boxes)
    assert sum(a.overlap(b) for i, a in enumerate(boxes) for b in boxes[:i]) == 0
    assert boxes == place_labels(marks, ["a label of a point"] * len(marks), frame)


@pytest.mark.parametrize("values", [
    [1.0, 1.0], [27.6, 30.0], [27.6, 1e5], [0.02, 0.05], [5e8, 1e9]])
def test_axes_hold_their_values_and_have_ticks(values: list[float]) -> None:
    axis = fit_axis(values, 0, 100)
    assert all(0 < axis.place(v) < 100 for v in values)
    assert 2 <= len(axis.ticks()) <= 8
    assert all(-1e-6 <= axis.place(t) <= 100 + 1e-6 for t in axis.ticks())
    assert axis.log == (max(values) / min(values) > 4)


def test_heat_maps_place_every_matrix() -> None:
    assert place("model.layers.12.mlp.down_proj.weight") == (12, "mlp.down_proj")
    assert place("model.layers.3.mlp.experts.gate_up_proj[7]") == (3, "mlp.experts.gate_up_proj")
    assert place("0.weight") == (0, "0")
    maps = error_maps(made.report().records)
    assert len(maps.maps) == 6
    assert [m.label for m in weight_error_maps(made.report().records).maps] == [
        "magnitude 50%", "magnitude 2:4", "magnitude 70%"]
    assert all(len(m.cells) == 210 and m.layers == 30 for m in maps.maps)
    shades = [cell.shade for m in maps.maps for cell in m.cells]
    assert min(shades) == 0
    assert max(shades) == 1
    assert density_maps(made.report().records).maps[0].summary == "0.500 in every matrix"


def test_words() -> None:
    assert [number(v) for v in (27.62, 379.4, 2233.0, 1.5e7, 0.5, None)] == [
        "27.6", "379", "2,233", "1.5e+07", "0.50", "\u2013"]
    assert [size(v) for v in (999.0, 1.5e6, 152e6, 1.08e9, None)] == [
        "999 B", "1.5 MB", "152 MB", "1.08 GB", "\u2013"]
    assert math.isfinite(float(number(99.96)))
