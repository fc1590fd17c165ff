"""Metrics in the text format of Prometheus."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Mapping

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_PREFIX = "gossamer_"


class Metrics:
    """Counts and times of requests; changed by the event loop's thread alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.active = 0
        self._times: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def record(self, route: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        self.requests[route, status] += 1
        times = self._times.setdefault(route, [0] * (len(_BOUNDS) + 1))
        times[bisect.bisect_left(_BOUNDS, seconds)] += 1
        self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self, gauges: Mapping[str, float]) -> str:
        """Everything, with further gauges by name."""
        lines = [f"# TYPE {_PREFIX}requests_total counter"]
        lines += [f'{_PREFIX}requests_total{{route="{route}",status="{status}"}} {count}'
                  for (route, status), count in sorted(self.requests.items())]
        lines.append(f"# TYPE {_PREFIX}request_seconds histogram")
        for route, times in sorted(self._times.items()):
            total = 0
            for bound, count in zip((*_BOUNDS, "+Inf"), times):
                total += count
                lines.append(
                    f'{_PREFIX}request_seconds_bucket{{route="{route}",le="{bound}"}} {total}')
            lines.append(
                f'{_PREFIX}request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}')
            lines.append(f'{_PREFIX}request_seconds_count{{route="{route}"}} {total}')
        for name, value in {"active_requests": self.active, **gauges}.items():
            lines += [f"# TYPE {_PREFIX}{name} gauge", f"{_PREFIX}{name} {value:g}"]
        return "\n".join(lines) + "\n"
