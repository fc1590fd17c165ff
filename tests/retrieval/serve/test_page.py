"""The search page in a real browser without a screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gossamer.retrieval import SparseIndex
from gossamer.retrieval.encoders import WordEncoder
from tests.retrieval.serve.live import TEXTS, serving

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
                 if (path := shutil.which(name))), None)
EVIL = "<img src=x onerror=\"document.title='evil'\"> supersonic <b>bold</b>"

# A page of the same server that uses the search page in a frame, and writes down what it saw.
HARNESS = """<!doctype html><body><iframe id="frame" src="/" width="WIDTH" height="900"></iframe>
<pre id="seen"></pre><script>
const frame = document.getElementById("frame"), seen = {};
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
async function until(holds) {
  for (let turn = 0; turn < 200 && !holds(); turn += 1) await wait(50);
}
async function type(page, view, text) {
  const said = page.getElementById("said").textContent;
  page.getElementById("query").value = text;
  page.getElementById("query").dispatchEvent(new view.Event("input"));
  await until(() => page.getElementById("said").textContent !== said);
  return {
    said: page.getElementById("said").textContent,
    bad: page.getElementById("said").className,
    ids: [...page.querySelectorAll(".id")].map((node) => node.textContent),
    texts: [...page.querySelectorAll(".text")].map((node) => node.textContent),
    marks: [...page.querySelectorAll("mark")].map((node) => node.textContent),
    terms: [...page.querySelectorAll(".term")].map((node) => node.textContent),
    scores: [...page.querySelectorAll(".score")].map((node) => Number(node.textContent)),
    images: page.querySelectorAll("img").length, title: page.title,
    width: page.documentElement.scrollWidth, frame: view.innerWidth,
  };
}
addEventListener("load", async () => {
  const page = frame.contentDocument, view = frame.contentWindow;
  await until(() => page.documentElement.dataset.ready === "yes");
  seen.begun = page.getElementById("said").textContent;
  seen.asked = page.getElementById("key").className;
  page.getElementById("key").value = "KEY";
  page.getElementById("key").dispatchEvent(new view.Event("change"));
  await until(() => page.getElementById("size").textContent !== "");
  seen.size = page.getElementById("size").textContent;
  seen.text = await type(page, view, "supersonic flow");
  page.getElementById("exact").checked = true;
  page.getElementById("exact").dispatchEvent(new view.Event("change"));
  await until(() => /, exact/.test(page.getElementById("said").textContent));
  seen.exact = page.getElementById("said").textContent;
  seen.raw = await type(page, view, "shell:2 thin:0.5");
  seen.none = await type(page, view, "nothing:1");
  seen.empty = await type(page, view, "");
  document.getElementById("seen").textContent = JSON.stringify(seen);
});
</script></body>"""


def browse(port: int, folder: Path) -> dict[str, Any]:
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
         "--virtual-time-budget=20000", "--dump-dom", f"http://127.0.0.1:{port}/harness"],
        capture_output=True, text=True, timeout=100, check=True)
    found = re.search(r'<pre id="seen">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    seen["log"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return seen


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium browser on the path")
@pytest.mark.parametrize("width", [1100, 360])
def test_in_a_browser(width: int, tmp_path: Path) -> None:
    from starlette.responses import HTMLResponse
    texts = [*TEXTS, EVIL]
    encoder, rows = WordEncoder.fit(texts)
    index = SparseIndex.build(rows, ids=[f"d{i}" for i in range(len(texts))], payloads=texts)
    page = HARNESS.replace("WIDTH", str(width)).replace("KEY", "s3cret")

    def extend(app: Any) -> None:
        app.add_route("/harness", lambda request: HTMLResponse(page))

    with serving(index, encoder, key="s3cret", extend=extend) as live:
        seen = browse(live.port, tmp_path)
    assert "API key is missing" in seen["begun"]
    assert seen["asked"] == "asked"
    assert seen["size"] == "6 documents"
    text = seen["text"]
    assert text["ids"][0] == "d1"
    assert {"d1", "d2", "d4", "d5"} == set(text["ids"])
    assert text["scores"] == sorted(text["scores"], reverse=True)
    assert set(text["marks"]) == {"supersonic", "flow"}
    assert {term.split()[0] for term in text["terms"]} == {"supersonic", "flow"}
    assert re.fullmatch(r"4 hits, approximate, [\d.]+ ms in the index, \d+ ms in all, "
                        r"\d+ postings added up, \d+ documents scored", text["said"])
    assert EVIL in text["texts"]
    assert (text["images"], text["title"]) == (0, "Search")
    assert text["width"] <= text["frame"]
    assert "4 hits, exact" in seen["exact"]
    assert seen["raw"]["ids"] == ["d3", "d4"]
    assert "is not among the" in seen["none"]["said"]
    assert seen["none"]["bad"] == "bad"
    assert (seen["empty"]["ids"], seen["empty"]["said"]) == ([], "")
    # Refusals of the server are the only thing that a browser complains of.
    assert not [line for line in seen["log"] if not re.search(r"status of 40[01]", line)]
