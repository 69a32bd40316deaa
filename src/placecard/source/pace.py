"""How slow a source may be. Only the time spent waiting for it counts, so a busy disk here is not held against it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """Judges one transfer from its waits.

    Args:
        floor_bytes_s: Rate that every full window must reach.
        window_s: Length of a window, in seconds of waiting; also the longest silence.
        total_s: Seconds of waiting that the whole transfer may take.
    """

    floor_bytes_s: float
    window_s: float
    total_s: float
    _in_window_s: float = 0.0
    _in_window_bytes: int = 0
    _waited_s: float = 0.0

    def patience_s(self) -> float:
        """Return how long the next wait may last before :meth:`waited` must be asked again."""
        return max(0.0, min(self.window_s - self._in_window_s, self.total_s - self._waited_s))

    def waited(self, seconds: float, received: int) -> str | None:
        """Note a wait and what it brought; return why the source is too slow, or None if it is not."""
        self._in_window_s += seconds
        self._in_window_bytes += received
        self._waited_s += seconds
        if self._waited_s >= self.total_s:
            return f"not complete after {self.total_s:g} s"
        if self._in_window_s < self.window_s:
            return None
        received, self._in_window_bytes, self._in_window_s = self._in_window_bytes, 0, 0.0
        if received < self.floor_bytes_s * self.window_s:
            return f"{received} bytes in {self.window_s:g} s; the floor is {self.floor_bytes_s:g} bytes/s"
        return None
