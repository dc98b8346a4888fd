# Windows: completion ports, and polling by the driver of sockets (AFD).  Where there is no Windows this file is empty.
#
# The driver's interface is not documented, but it is what select() and WSAPoll() are made of, and has not changed since
# Windows 2000: structures and codes here are part of it.

from libc.stdint cimport uint32_t, uint64_t, uintptr_t

cdef extern from *:
    """
    #ifdef _WIN32
    #include <winsock2.h>
    #include <windows.h>
    #include <winternl.h>
    #include <errno.h>
    #include <stdint.h>
    #include <string.h>

    #define METALIO_IOCTL_AFD_POLL 0x00012024
    #define METALIO_STATUS_PENDING ((NTSTATUS)0x00000103L)
    #define METALIO_STATUS_INVALID_HANDLE ((NTSTATUS)0xC0000008L)
    #define METALIO_STATUS_CANCELLED ((NTSTATUS)0xC0000120L)
    #ifndef SIO_BASE_HANDLE
    #define SIO_BASE_HANDLE 0x48000022
    #endif
    #ifndef SIO_BSP_HANDLE_POLL
    #define SIO_BSP_HANDLE_POLL 0x4800001D
    #endif

    NTSYSAPI NTSTATUS NTAPI NtCancelIoFileEx(HANDLE file, PIO_STATUS_BLOCK request, PIO_STATUS_BLOCK status);

    /* What the driver reads and writes; it stays where it is until the driver has done with it. */
    typedef struct {
        IO_STATUS_BLOCK status;
        struct {
            LARGE_INTEGER timeout;
            ULONG count;
            ULONG exclusive;
            struct {
                HANDLE handle;
                ULONG events;
                NTSTATUS status;
            } handles[1];
        } info;
    } metalio_request;

    static inline int metalio_last_error(void) {
        switch (GetLastError()) {
        case ERROR_NOT_ENOUGH_MEMORY:
        case ERROR_OUTOFMEMORY:
        case ERROR_NO_SYSTEM_RESOURCES: return ENOMEM;
        case ERROR_TOO_MANY_OPEN_FILES: return EMFILE;
        case ERROR_ACCESS_DENIED: return EACCES;
        case ERROR_INVALID_HANDLE: return EBADF;
        default: return EINVAL;
        }
    }

    static inline int metalio_status_error(NTSTATUS status) {
        SetLastError(RtlNtStatusToDosError(status));
        return metalio_last_error();
    }

    static inline int metalio_new_port(void **port) {
        *port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, NULL, 0, 0);
        return *port == NULL ? metalio_last_error() : 0;
    }

    /* A handle of the driver, whose completions go to a port under a key. */
    static inline int metalio_open_afd(void *port, uintptr_t key, void **afd) {
        static WCHAR name[] = L"\\\\Device\\\\Afd\\\\metalio";
        UNICODE_STRING path;
        OBJECT_ATTRIBUTES attributes;
        IO_STATUS_BLOCK status;
        HANDLE handle;
        path.Buffer = name;
        path.Length = sizeof name - sizeof name[0];
        path.MaximumLength = sizeof name;
        InitializeObjectAttributes(&attributes, &path, 0, NULL, NULL);
        NTSTATUS result = NtCreateFile(&handle, SYNCHRONIZE, &attributes, &status, NULL, 0,
                                       FILE_SHARE_READ | FILE_SHARE_WRITE, FILE_OPEN, 0, NULL, 0);
        if (result != 0) return metalio_status_error(result);
        if (CreateIoCompletionPort(handle, (HANDLE)port, key, 0) == NULL) {
            int error = metalio_last_error();
            CloseHandle(handle);
            return error;
        }
        SetFileCompletionNotificationModes(handle, FILE_SKIP_SET_EVENT_ON_HANDLE);
        *afd = handle;
        return 0;
    }

    /* The socket beneath what a layered provider may have put on top of it: that is the one that the driver knows. */
    static inline int metalio_base_socket(uintptr_t handle, void **base) {
        SOCKET sock = (SOCKET)handle, found;
        DWORD size;
        for (;;) {
            if (WSAIoctl(sock, SIO_BASE_HANDLE, NULL, 0, &found, sizeof found, &size, NULL, NULL) == 0) {
                *base = (void *)found;
                return 0;
            }
            if (WSAGetLastError() == WSAENOTSOCK) return ENOTSOCK;
            /* Some providers keep the question from those beneath, which may be asked in turn. */
            if (WSAIoctl(sock, SIO_BSP_HANDLE_POLL, NULL, 0, &found, sizeof found, &size, NULL, NULL) != 0 ||
                found == sock || found == INVALID_SOCKET) {
                *base = (void *)sock;
                return 0;
            }
            sock = found;
        }
    }

    /* 0, also where it was done at once, or the number of an error; a completion is queued where it is 0. */
    static inline int metalio_begin_poll(void *afd, metalio_request *request, void *sock, uint32_t events,
                                         uintptr_t context) {
        request->info.timeout.QuadPart = INT64_MAX;
        request->info.count = 1;
        request->info.exclusive = FALSE;
        request->info.handles[0].handle = (HANDLE)sock;
        request->info.handles[0].events = events;
        request->info.handles[0].status = 0;
        request->status.Information = 0;
        request->status.Status = METALIO_STATUS_PENDING;
        NTSTATUS result = NtDeviceIoControlFile((HANDLE)afd, NULL, NULL, (void *)context, &request->status,
                                                METALIO_IOCTL_AFD_POLL, &request->info, sizeof request->info,
                                                &request->info, sizeof request->info);
        return result == 0 || result == METALIO_STATUS_PENDING ? 0 : metalio_status_error(result);
    }

    static inline int metalio_in_kernel(metalio_request *request) {
        NTSTATUS status = *(volatile NTSTATUS *)&request->status.Status;
        MemoryBarrier();
        return status == METALIO_STATUS_PENDING;
    }

    static inline void metalio_cancel(void *afd, metalio_request *request) {
        IO_STATUS_BLOCK status;
        NtCancelIoFileEx((HANDLE)afd, &request->status, &status);
    }

    /* What a poll that has ended found; -1 where it was cancelled, -2 where the socket was refused. */
    static inline int metalio_polled(metalio_request *request) {
        if (request->status.Status == METALIO_STATUS_CANCELLED) return -1;
        if (request->status.Status != 0) return -2;
        return request->info.count ? (int)request->info.handles[0].events : 0;
    }

    /* The state of a socket at this moment, in the bits of the driver; WSAPoll() asks the same driver. */
    static inline int metalio_state(void *sock) {
        WSAPOLLFD place;
        place.fd = (SOCKET)sock;
        place.events = POLLRDNORM | POLLRDBAND | POLLWRNORM;
        place.revents = 0;
        if (WSAPoll(&place, 1, 0) < 0 || place.revents & POLLNVAL) return -1;
        return (place.revents & (POLLRDNORM | POLLHUP | POLLERR) ? 0x001 : 0) | (place.revents & POLLRDBAND ? 0x002 : 0) |
               (place.revents & (POLLWRNORM | POLLERR) ? 0x004 : 0) | (place.revents & POLLHUP ? 0x008 : 0);
    }

    static inline int metalio_take(void *port, void *entries, uint32_t most, uint32_t milliseconds, int alertable) {
        ULONG count = 0;
        if (GetQueuedCompletionStatusEx((HANDLE)port, (OVERLAPPED_ENTRY *)entries, most, &count, milliseconds, alertable))
            return (int)count;
        DWORD error = GetLastError();
        return error == WAIT_TIMEOUT || error == WAIT_IO_COMPLETION ? 0 : -metalio_last_error();
    }

    static inline int metalio_post(void *port, uintptr_t key) {
        return PostQueuedCompletionStatus((HANDLE)port, 0, key, NULL) ? 0 : metalio_last_error();
    }

    static inline void metalio_close_handle(void *handle) { CloseHandle((HANDLE)handle); }
    #endif
    """
    ctypedef struct Request "metalio_request":
        pass

    ctypedef struct Completion "OVERLAPPED_ENTRY":
        uintptr_t lpCompletionKey
        void *lpOverlapped

    # 0, or the number of an error.
    int new_port "metalio_new_port"(void **port) nogil
    int open_afd "metalio_open_afd"(void *port, uintptr_t key, void **afd) nogil
    int base_socket "metalio_base_socket"(uintptr_t handle, void **base) nogil
    int begin_poll "metalio_begin_poll"(void *afd, Request *request, void *sock, uint32_t events, uintptr_t context) nogil
    int post "metalio_post"(void *port, uintptr_t key) nogil
    # Whether the kernel may still write into a request.
    bint in_kernel "metalio_in_kernel"(Request *request) nogil
    void cancel "metalio_cancel"(void *afd, Request *request) nogil
    int polled "metalio_polled"(Request *request) nogil
    int state_now "metalio_state"(void *sock) nogil
    # How many completions, or the negative number of an error; 0 also where a procedure was run (alertable).
    int take "metalio_take"(void *port, void *entries, uint32_t most, uint32_t milliseconds, bint alertable) nogil
    void close_handle "metalio_close_handle"(void *handle) nogil

# What the driver can be asked to look for.
cdef enum:
    AFD_RECEIVE = 0x001
    AFD_RECEIVE_EXPEDITED = 0x002
    AFD_SEND = 0x004
    # The peer has shut down its writing side.
    AFD_DISCONNECT = 0x008
    # The connection was reset.
    AFD_ABORT = 0x010
    # The handle was closed.
    AFD_LOCAL_CLOSE = 0x020
    AFD_ACCEPT = 0x080
    AFD_CONNECT_FAIL = 0x100
