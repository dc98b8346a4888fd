# Windows: named pipes, whose operations are overlapped.

from libc.stddef cimport wchar_t
from libc.stdint cimport uint32_t, uintptr_t

from metalio._sys.user_space cimport Node

cdef extern from *:
    """
    #include <winsock2.h>
    #include <windows.h>
    #include <winternl.h>
    #include <stdint.h>
    #include <string.h>

    #ifndef PIPE_REJECT_REMOTE_CLIENTS
    #define PIPE_REJECT_REMOTE_CLIENTS 8
    #endif
    #define METALIO_STATUS_PENDING ((NTSTATUS)0x00000103L)
    #define METALIO_STATUS_ACCESS_DENIED ((NTSTATUS)0xC0000022L)

    /* What an operation that was begun has come to: -1 while the kernel may still write, or an error, or 0.  The kernel
       stores the status last. */
    static inline long metalio_result(OVERLAPPED *request, uint32_t *size) {
        NTSTATUS status = (NTSTATUS)*(volatile ULONG_PTR *)&request->Internal;
        MemoryBarrier();
        if (status == METALIO_STATUS_PENDING) return -1;
        *size = (uint32_t)request->InternalHigh;
        return (long)RtlNtStatusToDosError(status);
    }

    /* These give 0 where the operation was begun, and perhaps is done already, or else an error. */
    static inline DWORD metalio_begun(BOOL done) {
        DWORD error = done ? 0 : GetLastError();
        return error == ERROR_IO_PENDING || error == ERROR_MORE_DATA ? 0 : error;
    }
    static inline DWORD metalio_begin_read(void *pipe, OVERLAPPED *request, void *into, DWORD size) {
        memset(request, 0, sizeof *request);
        return metalio_begun(ReadFile((HANDLE)pipe, into, size, NULL, request));
    }
    static inline DWORD metalio_begin_write(void *pipe, OVERLAPPED *request, const void *data, DWORD size) {
        memset(request, 0, sizeof *request);
        return metalio_begun(WriteFile((HANDLE)pipe, data, size, NULL, request));
    }
    static inline DWORD metalio_begin_connect(void *pipe, OVERLAPPED *request) {
        memset(request, 0, sizeof *request);
        return metalio_begun(ConnectNamedPipe((HANDLE)pipe, request));
    }

    /* Where there is no client already, that is as well. */
    static inline DWORD metalio_disconnect(void *pipe) {
        DWORD error = DisconnectNamedPipe((HANDLE)pipe) ? 0 : GetLastError();
        return error == ERROR_PIPE_LISTENING || error == ERROR_PIPE_NOT_CONNECTED ? 0 : error;
    }

    static inline int metalio_is_pipe(void *handle) { return GetFileType((HANDLE)handle) == FILE_TYPE_PIPE; }

    static inline DWORD metalio_associate(void *pipe, void *port, uintptr_t key) {
        if (CreateIoCompletionPort((HANDLE)pipe, (HANDLE)port, key, 0) == NULL) return GetLastError();
        /* What is done at once needs no completion.  One that comes all the same does no harm. */
        SetFileCompletionNotificationModes((HANDLE)pipe, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS |
                                                             FILE_SKIP_SET_EVENT_ON_HANDLE);
        return 0;
    }

    static inline DWORD metalio_create_pipe(const wchar_t *name, DWORD mode, DWORD kind, DWORD instances, DWORD size,
                                            void **pipe) {
        *pipe = CreateNamedPipeW(name, mode | FILE_FLAG_OVERLAPPED, kind | PIPE_WAIT, instances, size, size, 0, NULL);
        return *pipe == INVALID_HANDLE_VALUE ? GetLastError() : 0;
    }

    /* A server may ask who its client is, but not act in its name. */
    static inline DWORD metalio_open_pipe(const wchar_t *name, DWORD access, void **pipe) {
        *pipe = CreateFileW(name, access | FILE_WRITE_ATTRIBUTES, 0, NULL, OPEN_EXISTING,
                            FILE_FLAG_OVERLAPPED | SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION, NULL);
        return *pipe == INVALID_HANDLE_VALUE ? GetLastError() : 0;
    }

    static inline DWORD metalio_read_messages(void *pipe) {
        DWORD mode = PIPE_READMODE_MESSAGE;
        return SetNamedPipeHandleState((HANDLE)pipe, &mode, NULL, NULL) ? 0 : GetLastError();
    }

    typedef struct {
        int is_pipe, overlapped, server, connected, messages;
        DWORD access;
    } metalio_pipe_info;

    /* Microsoft has it in a header for drivers alone. */
    #ifndef __MINGW32__
    NTSYSAPI NTSTATUS NTAPI NtQueryInformationFile(HANDLE file, PIO_STATUS_BLOCK status, PVOID into, ULONG size,
                                                   FILE_INFORMATION_CLASS kind);
    #endif

    /* What a handle that somebody else has opened is.  FILE_PIPE_LOCAL_INFORMATION, FILE_MODE_INFORMATION and
       FILE_ACCESS_INFORMATION, which not all headers have. */
    static inline void metalio_ask(void *handle, metalio_pipe_info *info) {
        IO_STATUS_BLOCK status;
        ULONG local[10], word = 0;
        DWORD state = 0;
        memset(info, 0, sizeof *info);
        if (GetFileType((HANDLE)handle) != FILE_TYPE_PIPE) return;
        NTSTATUS found = NtQueryInformationFile((HANDLE)handle, &status, local, sizeof local, (FILE_INFORMATION_CLASS)24);
        if (found == 0) {
            info->connected = local[8] == 3 || local[8] == 4;
            info->server = local[9] == 1;
        } else if (found == METALIO_STATUS_ACCESS_DENIED) {
            /* It is for writing only.  The operations themselves will tell. */
            info->connected = info->server = 1;
        } else {
            /* A socket, for example. */
            return;
        }
        info->is_pipe = 1;
        /* FILE_SYNCHRONOUS_IO_ALERT, FILE_SYNCHRONOUS_IO_NONALERT. */
        if (NtQueryInformationFile((HANDLE)handle, &status, &word, sizeof word, (FILE_INFORMATION_CLASS)16) == 0)
            info->overlapped = !(word & 0x30);
        else
            info->overlapped = -1;
        if (NtQueryInformationFile((HANDLE)handle, &status, &word, sizeof word, (FILE_INFORMATION_CLASS)8) == 0)
            info->access = word;
        else
            info->access = FILE_READ_DATA | FILE_WRITE_DATA;
        if (GetNamedPipeHandleStateW((HANDLE)handle, &state, NULL, NULL, NULL, NULL, 0))
            info->messages = (state & PIPE_READMODE_MESSAGE) != 0;
    }

    static inline void metalio_cancel_all(void *pipe) { CancelIoEx((HANDLE)pipe, NULL); }
    static inline void metalio_close_pipe(void *pipe) { CloseHandle((HANDLE)pipe); }
    """
    ctypedef struct Overlapped "OVERLAPPED":
        pass
    ctypedef struct Lock "SRWLOCK":
        pass
    ctypedef struct PipeInfo "metalio_pipe_info":
        int is_pipe
        # -1 where it cannot be found out.
        int overlapped
        int server
        int connected
        int messages
        uint32_t access

    # Of nobody who has to wait for the GIL while it is held.
    void lock_it "AcquireSRWLockExclusive"(Lock *lock) noexcept nogil
    void unlock_it "ReleaseSRWLockExclusive"(Lock *lock) noexcept nogil

    int result_of "metalio_result"(Overlapped *request, uint32_t *size) noexcept nogil
    # 0, or the number of an error of Windows'.
    uint32_t begin_read "metalio_begin_read"(void *pipe, Overlapped *request, void *into, uint32_t size) noexcept nogil
    uint32_t begin_write "metalio_begin_write"(
        void *pipe, Overlapped *request, const void *data, uint32_t size) noexcept nogil
    uint32_t begin_connect "metalio_begin_connect"(void *pipe, Overlapped *request) noexcept nogil
    uint32_t disconnect_pipe "metalio_disconnect"(void *pipe) noexcept nogil
    uint32_t associate "metalio_associate"(void *pipe, void *port, uintptr_t key) noexcept nogil
    uint32_t create_pipe "metalio_create_pipe"(const wchar_t *name, uint32_t mode, uint32_t kind, uint32_t instances,
                                               uint32_t size, void **pipe) noexcept nogil
    uint32_t open_pipe "metalio_open_pipe"(const wchar_t *name, uint32_t access, void **pipe) noexcept nogil
    uint32_t read_messages "metalio_read_messages"(void *pipe) noexcept nogil
    bint is_pipe "metalio_is_pipe"(void *handle) noexcept nogil
    void ask "metalio_ask"(void *handle, PipeInfo *info) noexcept nogil
    void cancel_all "metalio_cancel_all"(void *pipe) noexcept nogil
    void close_pipe "metalio_close_pipe"(void *pipe) noexcept nogil

cdef enum:
    ERROR_ACCESS_DENIED = 5
    ERROR_BROKEN_PIPE = 109
    ERROR_NO_DATA = 232
    ERROR_PIPE_NOT_CONNECTED = 233
    ERROR_MORE_DATA = 234
    ERROR_PIPE_CONNECTED = 535
    ERROR_PIPE_LISTENING = 536
    ERROR_OPERATION_ABORTED = 995

cdef enum:
    # How much is read ahead at a time, and written in one operation at the most (but for messages).
    AHEAD = 16384
    CHUNK = 65536


cdef struct PipeOperation:
    Overlapped request
    # Whether it was begun, and its end has not been seen yet.
    bint begun
    # Nobody wants to know how it ends.
    bint abandoned


# Everything the kernel writes to; it outlives its pipe if it has to.
cdef struct Engine:
    Lock lock
    # NULL once it is closed.
    void *handle
    bint server
    bint inbound
    bint outbound
    # Whether what is read keeps to the bounds of messages.
    bint messages
    bint connected
    # Whether reading ahead begins by itself: it is registered for reading.
    bint eager
    # Whether to connect when an operation that was abandoned has ended.
    bint connect_wanted
    PipeOperation connecting
    PipeOperation reading
    PipeOperation writing
    # What was read ahead: from `first` on, up to `last`.
    char *ahead
    uint32_t first
    uint32_t last
    # Whether there is more of the message than was read ahead, and whether a read has reached the end of one.
    bint more
    bint complete
    bint ended
    char *out
    size_t out_size
    # Errors of Windows' that are still to be told.
    uint32_t connect_error
    uint32_t read_error
    uint32_t write_error
    # The readiness that the node has been told.
    int shown
    Engine *next


cdef class PipeNode(Node):
    cdef Engine *engine

    cdef bint arm(self, int interest) noexcept
    cdef bint notice(self) noexcept
    # Bring the node's readiness up to date; from outside of a poll.
    cdef int refresh(self) except -1
    cdef bint show(self) noexcept
    cdef int want(self, bint reading) except -1
    # 0, or EAGAIN, or the number of an error (see metalio._sys.errors).
    cdef int connect(self) noexcept
    cdef int disconnect(self) noexcept
    cdef int take_error(self) noexcept
    cdef int shut(self) noexcept


cdef Engine *new_engine(void *handle, PipeInfo *info) except NULL

# How many bytes, or the negative number of an error.
cdef Py_ssize_t pull_pipe(Engine *engine, char *into, size_t size) noexcept nogil
cdef Py_ssize_t push_pipe(Engine *engine, const char *data, size_t size) noexcept nogil
