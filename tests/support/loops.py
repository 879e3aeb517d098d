"""An event loop whose timers run when a test says that time has passed."""

import asyncio
from collections.abc import Callable
from typing import Any


class StillLoop(asyncio.SelectorEventLoop):
    """`call_soon` works as ever, within `settle`; `call_later` waits for `pass_time`."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self._timers: list[tuple[float, asyncio.TimerHandle]] = []

    def time(self) -> float:
        return self.now_s

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self.now_s + delay, callback, args, self)
        self._timers.append((self.now_s + delay, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """These timers are not in the base class's heap."""

    def pass_time(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while due := sorted((at_s, number) for number, (at_s, _) in enumerate(self._timers) if at_s <= end_s):
            self.now_s, number = due[0]
            _, timer = self._timers.pop(number)
            if not timer.cancelled():
                timer._run()
            self.settle()
        self.now_s = end_s

    def settle(self) -> None:
        """Runs what waits for its turn."""
        self.call_soon(self.stop)
        self.run_forever()
