"""The folder of a frontier: finished points, the plan, and what of it can be used again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gossamer.core import StoreError
from gossamer.core.atomic import explained, write_text
from gossamer.jobs.job import FrontierJob
from gossamer.jobs.record import Record

NAME = "frontier.json"
SCHEMA = 1
_OURS = ("points", "models", "race.json", "crossover.json", "points.json", "frontier.html",
         "frontier.png", NAME)


@dataclass(frozen=True)
class State:
    """Where a frontier keeps its files."""

    folder: Path

    def point(self, id: str) -> Path:
        """File of a finished point."""
        return self.folder / "points" / f"{id}.json"

    def model(self, id: str) -> Path:
        """Folder of a saved model."""
        return self.folder / "models" / id


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def open_state(out: Path, job: FrontierJob, resume: bool) -> State:
    """The folder, made where it is new and emptied of an earlier frontier without ``resume``.

    Raises:
        StoreError: it holds something that is no frontier, or that of another model.
    """
    state = State(out)
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file; give a folder for the frontier.")
    earlier = read_json(out / NAME)
    if out.is_dir() and any(out.iterdir()) and (earlier or {}).get("kind") != "gossamer.frontier":
        raise StoreError(
            f"{out} holds something that is no frontier; choose a new or empty folder."
        )
    if earlier is not None and not resume:
        _clear(out)
    elif earlier is not None and earlier.get("job", {}).get("model") != job.model:
        raise StoreError(
            f"{out} holds the frontier of {earlier.get('job', {}).get('model')!r}; choose another "
            "folder, or start over in this one by not resuming."
        )
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob("models/.*.tmp-*"):  # of a run that was killed while saving
        shutil.rmtree(leftover, ignore_errors=True)
    return state


def plan_key(job: FrontierJob) -> str:
    """What must be equal for an earlier plan to hold: all but systems, targets and the limit."""
    fields = {k: v for k, v in asdict(job).items() if k not in ("systems", "targets", "limit")}
    return digest(fields)


def saved_plan(state: State, job: FrontierJob) -> dict[str, Any] | None:
    """The plan that an earlier run of the same job made; None for another job."""
    found = read_json(state.folder / NAME)
    if found is None or found.get("key") != plan_key(job):
        return None
    plan = found.get("plan")
    return plan if isinstance(plan, dict) else None


def save_plan(state: State, job: FrontierJob, plan: dict[str, Any]) -> None:
    """Write the job and its plan; before any point, so that the folder is known as a frontier."""
    body = {"kind": "gossamer.frontier", "schema": SCHEMA, "job": asdict(job),
            "key": plan_key(job), "plan": plan}
    write_text(state.folder / NAME, json.dumps(body, indent=1) + "\n")


def save_record(state: State, id: str, key: str, record: Record) -> None:
    """Write a finished point, all or nothing."""
    body = record.to_json()
    with explained(state.folder):
        state.point(id).parent.mkdir(exist_ok=True)
    write_text(state.point(id), json.dumps(
        {"schema": SCHEMA, "key": key, "sha256": digest(body), "record": body}, indent=1) + "\n")


def saved_record(state: State, id: str, key: str) -> tuple[Record | None, str]:
    """A finished point made with the same settings; else None, and why in a few words."""
    path = state.point(id)
    if not path.exists():
        return None, ""
    found = read_json(path)
    if found is None or found.get("schema") != SCHEMA or "record" not in found:
        return None, f"{path.name} is damaged; its point is measured again"
    if found.get("sha256") != digest(found["record"]):
        return None, f"{path.name} is damaged; its point is measured again"
    if found.get("key") != key:
        return None, f"{path.name} was made with other settings; its point is measured again"
    try:
        return Record.from_json(found["record"]), ""
    except StoreError:
        return None, f"{path.name} is damaged; its point is measured again"


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where the file is absent, torn or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _clear(out: Path) -> None:
    """Remove what a frontier writes, and nothing else."""
    for name in _OURS:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
