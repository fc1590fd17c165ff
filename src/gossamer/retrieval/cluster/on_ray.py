"""Workers as actors of Ray, on as many machines as its cluster has.

Shards are opened from their folders, so that all machines must see these: on a shared file system,
or on one machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Sequence
from typing import Any

from gossamer.core import NeedsError
from gossamer.retrieval.cluster.workers import LostError, Shard


class OnRay:
    """Workers as actors; Ray is started on this machine where it is not running.

    Args:
        cpus: of each actor, as Ray counts them.

    Raises:
        NeedsError: ray is not installed.
    """

    def __init__(self, cpus: float = 1.0) -> None:
        if importlib.util.find_spec("ray") is None:
            raise NeedsError('Clusters need ray: pip install "gossamer[cluster]".')
        import ray
        self._ray = ray
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        self._actor = ray.remote(num_cpus=cpus)(Shard)

    def start(self, folder: str, writable: bool) -> Any:
        """An actor with an open shard."""
        return self._actor.remote(folder, writable)

    def ask(self, worker: Any, method: str, *given: Any) -> Any:
        """The reference of a call's result."""
        return getattr(worker, method).remote(*given)

    def wait(self, tickets: Sequence[Any], seconds: float | None) -> list[Any]:
        """References whose result is there."""
        done, _ = self._ray.wait(list(tickets), num_returns=1, timeout=seconds)
        return list(done)

    def result(self, ticket: Any) -> Any:
        """What the call returned or raised."""
        try:
            return self._ray.get(ticket)
        except self._ray.exceptions.RayActorError as error:
            raise LostError from error

    def stop(self, worker: Any) -> None:
        """Close the shard and end its actor."""
        errors = self._ray.exceptions
        with contextlib.suppress(errors.RayActorError, errors.GetTimeoutError):  # gone already
            self._ray.get(worker.close.remote(), timeout=30)
        self._ray.kill(worker)
