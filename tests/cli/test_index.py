"""``gossamer index``: every verb, from files to answers and back to files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from gossamer.cli import main
from gossamer.retrieval import SparseIndex

TEXTS = ["heat transfer over a flat plate", "flow past a flat plate in supersonic flow",
         "shear flow of a boundary layer", "buckling of a thin shell"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{i}", "text": text}) + "\n"
                            for i, text in enumerate(TEXTS)))
    return path


def run(*words: Any) -> int:
    return main(["index", *(str(word) for word in words)])


def test_texts_from_building_to_deleting(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "index"
    assert run("build", folder, texts) == 0
    assert "4 documents" in capsys.readouterr().out
    assert run("search", folder, "flow", "plate", "--k", 2, "--explain") == 0
    shown = capsys.readouterr().out
    assert "d1" in shown
    assert "d3" not in shown
    assert TEXTS[1] in shown
    assert "flow" in shown.split(TEXTS[1])[1]
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": "new", "text": "flow and flow", "year": 1962}\n')
    assert run("add", folder, more) == 0
    assert run("search", folder, "flow:1", "--exact") == 0
    assert "1962" in capsys.readouterr().out
    assert run("delete", folder, "new", "d1", "nothing") == 0
    assert "2 of 3 documents deleted" in capsys.readouterr().out
    assert run("check", folder) == 0
    assert "as it was written" in capsys.readouterr().out
    segment = next(folder.glob("*.segment"))
    torn = segment.read_bytes()
    segment.write_bytes(torn[:-70])
    assert run("check", folder) == 1
    assert "damaged" in capsys.readouterr().out
    segment.write_bytes(torn)
    assert run("recover", folder, tmp_path / "again") == 0
    assert "3 documents" in capsys.readouterr().out
    assert run("search", tmp_path / "again", "flow") == 0
    capsys.readouterr()
    with SparseIndex.load(folder) as index:
        assert sorted(index.ids()) == ["d0", "d2", "d3"]
        assert index.payload("d0") == TEXTS[0]


def test_numbers_tuned_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = scipy.sparse.random(400, 60, 0.2, "csr", np.float32, random_state=0)
    queries = scipy.sparse.random(20, 60, 0.1, "csr", np.float32, random_state=1)
    scipy.sparse.save_npz(tmp_path / "docs.npz", documents)
    scipy.sparse.save_npz(tmp_path / "queries.npz", queries)
    folder = tmp_path / "index"
    assert run("import", tmp_path / "docs.npz", folder) == 0
    assert run("tune", folder, tmp_path / "queries.npz", "--recall", 0.9) == 0
    assert "A recall of 0.9 at 10 takes" in capsys.readouterr().out
    assert run("bench", folder, tmp_path / "queries.npz", "--seconds", 0.05,
               "--json", tmp_path / "bench.json") == 0
    lines = json.loads((tmp_path / "bench.json").read_text())["lines"]
    assert [line["aim"] for line in lines] == [0.9, 0.95, 0.99, 1.0]
    assert lines[-1]["recall"] == 1.0
    assert lines[0]["recall"] >= 0.9
    assert run("search", folder, "3:0.5", "17") == 0
    assert run("delete", folder, "3", "x") == 2
    assert "ids of this index are integers, not 'x'" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["vectors", "opensearch", "qdrant", "anserini", "ciff", "npz"])
def test_out_and_in_again(form: str, texts: Path, tmp_path: Path) -> None:
    folder, out, again = tmp_path / "index", tmp_path / "out", tmp_path / "again"
    assert run("build", folder, texts) == 0
    assert run("export", folder, "--out", out, "--format", form) == 0
    assert run("import", out, again, "--format", form) == 0
    query = "flow" if form in ("opensearch", "anserini", "ciff") else "1:1"
    with SparseIndex.load(folder) as first, SparseIndex.load(again) as second:
        assert len(first) == len(second) == 4
        assert sorted(first.ids()) == sorted(second.ids())
        if form == "vectors":
            assert second.payload("d3") == TEXTS[3]
    assert run("search", again, query) == 0


def test_names_grow_as_documents_are_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"id": "a", "vector": {"flow": 3}}\n')
    second.write_text('{"id": "b", "vector": {"plate": 3, "flow": 1}}\n')
    folder = tmp_path / "index"
    assert run("import", first, folder) == 0
    assert run("add", folder, second) == 0
    capsys.readouterr()
    assert run("search", folder, "plate") == 0
    assert " b " in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [
    (["bild"], "did you mean 'build'"),
    (["build", "new", "texts.jsonl", "--format", "cif"], "did you mean 'ciff'"),
    (["build", "new", "none.jsonl"], "There is no file none.jsonl."),
    (["search", "none", "word"], "none"),
    (["import", "texts.jsonl", "new"], "use gossamer index build"),
    (["build", "new", "torn.jsonl"], 'has no "text"'),
    (["build", "new", "texts.jsonl", "--stem", "klingon"], "klingon"),
])
def test_what_goes_wrong_is_one_sentence(
    words: list[str], said: str, texts: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(texts.parent)
    Path("torn.jsonl").write_text('{"text": "a word"}\n{"id": 1}\n')
    assert run(*words) == 2
    seen = capsys.readouterr().err
    assert said in seen
    assert seen.count("\n") == 1
    assert not Path("new").exists()


def test_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    printed = capsys.readouterr().out
    for verb in ("build", "import", "add", "delete", "search", "serve", "tune", "check", "recover",
                 "bench", "export"):
        assert f"\n  {verb} " in printed


def test_served_until_it_is_told_to_stop(texts: Path, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    import socket
    folder = tmp_path / "index"
    assert run("build", folder, texts) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", "from gossamer.cli import main; raise SystemExit(main())",
         "index", "serve", str(folder), "--port", str(port)],
        env={**os.environ, "GOSSAMER_KEY": "word"}, stderr=subprocess.PIPE)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/search", json.dumps({"query": "flow"}).encode(),
            {"Authorization": "Bearer word"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert {hit["id"] for hit in json.load(answer)["hits"]} == {"d1", "d2"}
    finally:
        server.send_signal(signal.SIGTERM)
        said = server.communicate(timeout=20)[1]
    assert b"Traceback" not in said
    with SparseIndex.load(folder, writable=True) as index:  # the lock is free
        assert len(index) == 4
