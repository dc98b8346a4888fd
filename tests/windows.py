"""What Windows tells of a process, by its handle."""

import ctypes
from ctypes import wintypes

kernel = ctypes.WinDLL("kernel32", use_last_error=True)


class _Memory(ctypes.Structure):
    _fields_ = [("cb", wintypes.DWORD), ("faults", wintypes.DWORD)] + [
        (name, ctypes.c_size_t)
        for name in ("peak", "working_set", "peak_paged", "paged", "peak_other", "other", "pagefile", "peak_pagefile")
    ]


def _checked(success):
    if not success:
        raise ctypes.WinError(ctypes.get_last_error())


def open_handles(process):
    """How many handles it has."""
    count = wintypes.DWORD()
    _checked(kernel.GetProcessHandleCount(wintypes.HANDLE(int(process)), ctypes.byref(count)))
    return count.value


def working_set(process):
    """The bytes that it has in memory."""
    memory = _Memory()
    memory.cb = ctypes.sizeof(memory)
    _checked(kernel.K32GetProcessMemoryInfo(wintypes.HANDLE(int(process)), ctypes.byref(memory), memory.cb))
    return memory.working_set


def processor_time(process):
    """The seconds that it has worked."""
    times = [wintypes.FILETIME() for _ in range(4)]
    _checked(kernel.GetProcessTimes(wintypes.HANDLE(int(process)), *map(ctypes.byref, times)))
    return sum((time.dwHighDateTime << 32 | time.dwLowDateTime) / 1e7 for time in times[2:])
