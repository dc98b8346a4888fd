# Windows: a process by its handle, and a wait of the thread pool for it.

from libc.stdint cimport uint32_t, uintptr_t

from metalio._sys.afd cimport AfdSelector
from metalio._sys.port_source cimport PortSource
from metalio._sys.user_space cimport Node

cdef extern from *:
    """
    #include <winsock2.h>
    #include <windows.h>
    #include <stdint.h>
    #include <stdlib.h>

    typedef struct {
        HANDLE wait, port;
        ULONG_PTR key;
    } metalio_wait;

    /* In a thread of the pool, which knows nothing of Python.  It comes once, so it has to get through: what may be
       missing is the kernel's memory. */
    static VOID CALLBACK metalio_wait_is_over(PVOID context, BOOLEAN timed_out) {
        metalio_wait *wait = (metalio_wait *)context;
        (void)timed_out;
        for (int attempt = 0; attempt < 1000; attempt++) {
            if (PostQueuedCompletionStatus(wait->port, 0, wait->key, NULL)) break;
            Sleep(10);
        }
    }

    static inline DWORD metalio_begin_wait(void *process, void *port, uintptr_t key, metalio_wait **begun) {
        metalio_wait *wait = (metalio_wait *)calloc(1, sizeof *wait);
        HANDLE self = GetCurrentProcess();
        DWORD error;
        if (wait == NULL) return ERROR_NOT_ENOUGH_MEMORY;
        wait->key = key;
        if (!DuplicateHandle(self, (HANDLE)port, self, &wait->port, 0, FALSE, DUPLICATE_SAME_ACCESS)) {
            error = GetLastError();
        } else if (!RegisterWaitForSingleObject(&wait->wait, (HANDLE)process, metalio_wait_is_over, wait, INFINITE,
                                                WT_EXECUTEONLYONCE | WT_EXECUTEINWAITTHREAD)) {
            error = GetLastError();
            CloseHandle(wait->port);
        } else {
            *begun = wait;
            return 0;
        }
        free(wait);
        return error;
    }

    static inline void metalio_end_wait(metalio_wait *wait) {
        /* Waits for the callback, if that runs.  Otherwise it might still look at this. */
        if (!UnregisterWaitEx(wait->wait, INVALID_HANDLE_VALUE)) return;
        CloseHandle(wait->port);
        free(wait);
    }

    static inline DWORD metalio_open_process(uint32_t number, void **process) {
        DWORD rights = SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION;
        *process = OpenProcess(rights | PROCESS_TERMINATE, FALSE, number);
        if (*process == NULL && GetLastError() == ERROR_ACCESS_DENIED) *process = OpenProcess(rights, FALSE, number);
        if (*process == NULL) return GetLastError();
        /* Numbers are multiples of four, and are rounded down to one. */
        if (GetProcessId((HANDLE)*process) == number) return 0;
        CloseHandle((HANDLE)*process);
        return ERROR_INVALID_PARAMETER;
    }

    static inline int metalio_has_ended(void *process) {
        return WaitForSingleObject((HANDLE)process, 0) == WAIT_OBJECT_0;
    }
    static inline DWORD metalio_exit_code(void *process, uint32_t *code) {
        return GetExitCodeProcess((HANDLE)process, (DWORD *)code) ? 0 : GetLastError();
    }
    static inline DWORD metalio_terminate(void *process, DWORD code) {
        return TerminateProcess((HANDLE)process, code) ? 0 : GetLastError();
    }
    """
    ctypedef struct Wait "metalio_wait":
        pass

    # 0, or the number of an error of Windows'.
    uint32_t begin_wait "metalio_begin_wait"(void *process, void *port, uintptr_t key, Wait **begun) noexcept nogil
    void end_wait "metalio_end_wait"(Wait *wait) noexcept nogil
    uint32_t open_process "metalio_open_process"(uint32_t number, void **process) noexcept nogil
    bint has_ended "metalio_has_ended"(void *process) noexcept nogil
    uint32_t exit_code "metalio_exit_code"(void *process, uint32_t *code) noexcept nogil
    uint32_t terminate "metalio_terminate"(void *process, uint32_t code) noexcept nogil

cdef enum:
    ERROR_ACCESS_DENIED = 5
    ERROR_INVALID_PARAMETER = 87


cdef class WaitNode(Node):
    cdef bint notice(self) noexcept


cdef class ProcessWait(PortSource):
    # Borrowed: whoever owns it closes this first.
    cdef void *process
    cdef Wait *wait

    cdef int attach(self, AfdSelector selector) except -1
    cdef int want(self, int interest) except -1
    cdef int detach(self) except -1
