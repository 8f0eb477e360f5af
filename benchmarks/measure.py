"""Measures time by stage, peak memory and floating-point operations."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Stages:
    """Seconds by stage; time in a nested stage counts only for the inner one."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._open: list[tuple[str, float]] = []

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        now = self._now()
        if self._open:
            outer, since = self._open[-1]
            self.seconds[outer] += now - since
        self._open.append((name, now))
        try:
            yield
        finally:
            now = self._now()
            _, since = self._open.pop()
            self.seconds[name] += now - since
            if self._open:
                self._open[-1] = (self._open[-1][0], now)

    def time(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self(name):
                return function(*args, **kwargs)

        return timed


def give_back() -> None:
    """Returns freed memory to the system, so that it does not count in the next peak."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps freed memory; other libraries have no malloc_trim
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class PeakMemory:
    """Peak memory in bytes: on a CPU of the whole process, with weights and libraries; on a GPU of its allocator."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._stop.is_set():
            self.bytes = max(self.bytes, process.memory_info().rss)
            self._stop.wait(0.005)

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self._stop.set()
            self._thread.join()
            self.bytes = max(self.bytes, psutil.Process().memory_info().rss)  # the thread may have missed it


class _Counter(TorchDispatchMode):
    """Counts with torch's formulas, but without the module hooks of its counter, which break `autograd.grad`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def count_flops(function: Callable[[], Any]) -> float:
    """Floating-point operations of the matrix products and convolutions in one call."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operation is not counted
    try:
        with _Counter() as counter:
            function()
    finally:
        torch.backends.mha.set_fastpath_enabled(was)
    return float(counter.total)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second that a large matrix product reaches on this device."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    stages = Stages(device)
    for name in ("warm", "timed"):
        with stages(name):
            for _ in range(3):
                a @ b
    return 3 * 2 * n**3 / stages.seconds["timed"]
