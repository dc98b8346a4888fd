"""What Windows tells of a process, by its number or its handle."""

import ctypes
import functools
import os
import socket
import struct
from ctypes import wintypes

kernel = ctypes.WinDLL("kernel32", use_last_error=True)
WINE = hasattr(ctypes.windll.ntdll, "wine_get_version")


class _Memory(ctypes.Structure):
    _fields_ = [("cb", wintypes.DWORD), ("faults", wintypes.DWORD)] + [
        (name, ctypes.c_size_t)
        for name in ("peak", "working_set", "peak_paged", "paged", "peak_other", "other", "pagefile", "peak_pagefile")
    ]


def _checked(success):
    if not success:
        raise ctypes.WinError(ctypes.get_last_error())


def handles(number):
    """The handles of the process with this number, with a number for the kind of each."""
    size = 1 << 20
    while True:
        space = ctypes.create_string_buffer(size)
        needed = ctypes.c_ulong()
        # SystemExtendedHandleInformation: a count, something reserved, and 40 bytes for each handle of all processes.
        status = ctypes.windll.ntdll.NtQuerySystemInformation(64, space, size, ctypes.byref(needed))
        if status == 0:
            break
        assert status & 0xFFFFFFFF == 0xC0000004, f"the system does not tell its handles: {status & 0xFFFFFFFF:#x}"
        size *= 2
    (count,) = struct.unpack_from("N", space)
    entries = [struct.unpack_from("NNLHH", space, 16 + 40 * index + 8) for index in range(count)]
    return {handle: kind for process, handle, _, _, kind in entries if process == number}


@functools.cache
def kinds_of_handles():
    """The numbers of those that metalio has: files, of which sockets are some, and completion ports."""
    kernel.CreateIoCompletionPort.restype = ctypes.c_void_p
    port = kernel.CreateIoCompletionPort(ctypes.c_void_p(-1), None, None, 0)
    with socket.socket() as sock:
        found = handles(os.getpid())
        kinds = {found[port], found[sock.fileno()]}
    kernel.CloseHandle(ctypes.c_void_p(port))
    assert len(kinds) == 2
    return kinds


def count_handles():
    """How many files, sockets and completion ports this process has open."""
    kinds = kinds_of_handles()
    return sum(kind in kinds for kind in handles(os.getpid()).values())


def is_socket(handle):
    """Whether a handle of this process is one of a socket."""
    kind, size = ctypes.c_int(), ctypes.c_int(4)
    get = ctypes.windll.ws2_32.getsockopt
    return get(ctypes.c_void_p(handle), socket.SOL_SOCKET, socket.SO_TYPE, ctypes.byref(kind), ctypes.byref(size)) == 0


def count_sockets():
    """How many sockets this process has open."""
    return sum(is_socket(handle) for handle in handles(os.getpid()))


def is_running(number):
    """Whether the process with this number has not ended yet."""
    kernel.OpenProcess.restype = wintypes.HANDLE
    process = wintypes.HANDLE(kernel.OpenProcess(0x100000, False, number))  # SYNCHRONIZE
    if not process:
        return False
    ended = kernel.WaitForSingleObject(process, 0) == 0
    kernel.CloseHandle(process)
    return not ended


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


def modules(process):
    """The files of its program and libraries."""
    found = (wintypes.HMODULE * 1024)()
    needed = wintypes.DWORD()
    _checked(
        kernel.K32EnumProcessModules(wintypes.HANDLE(int(process)), found, ctypes.sizeof(found), ctypes.byref(needed))
    )
    names = []
    for module in found[: needed.value // ctypes.sizeof(wintypes.HMODULE)]:
        name = ctypes.create_unicode_buffer(1024)
        _checked(
            kernel.K32GetModuleFileNameExW(wintypes.HANDLE(int(process)), wintypes.HMODULE(module), name, len(name))
        )
        names.append(name.value)
    return names
