from metalio._sys.sockets cimport msghdr
from metalio.net.stream cimport Stream


cdef class UnixStream(Stream):
    # A read was short, and perhaps not because it had read all.
    cdef bint doubtful
    # The next read is likely to be short as well: ask for what tells why.
    cdef bint wary

    cdef object send_message(self, msghdr *message, Py_ssize_t size)
    cdef Py_ssize_t receive_message(self, msghdr *message, bint large) noexcept
    cdef Py_ssize_t receive(self, int fd, msghdr *message, int flags) noexcept nogil
    cdef int renew_short(self, int directions) except -1


# A new descriptor.
cdef int open_stream() except -1


cdef extern from *:
    """
    #include <errno.h>
    #ifndef _WIN32
    #include <fcntl.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <sys/un.h>
    #include <unistd.h>
    #endif
    #ifndef ETOOMANYREFS
    #define ETOOMANYREFS -1
    #endif

    /* Linux tells of descriptors that a read has thrown away, in the same call.  The BSDs stop before the message that
       carries them, and say nothing. */
    #if defined(__linux__)
    #define METALIO_TELLS_TRUNCATION 1
    #else
    #define METALIO_TELLS_TRUNCATION 0
    #endif

    /* A descriptor for the peer's process, which comes unasked where an adopted socket has SO_PASSPIDFD. */
    #if defined(SCM_PIDFD)
    #define METALIO_SCM_PIDFD SCM_PIDFD
    #elif defined(__linux__)
    #define METALIO_SCM_PIDFD 4
    #else
    #define METALIO_SCM_PIDFD -1
    #endif

    #ifdef _WIN32
    #define metalio_close_fd(fd) ((void)(fd), 0)
    static inline int metalio_unread(int fd) {
        u_long size = 0;
        return ioctlsocket((SOCKET)fd, FIONREAD, &size) != 0 ? -metalio_wsa_error(WSAGetLastError()) : (int)size;
    }
    #else
    #define metalio_close_fd close
    static inline int metalio_unread(int fd) {
        int size = 0;
        return ioctl(fd, FIONREAD, &size) < 0 ? -errno : size;
    }
    #endif

    static inline void metalio_close_on_exec(int fd) {
    #if !defined(MSG_CMSG_CLOEXEC) && !defined(_WIN32)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    #else
        (void)fd;
    #endif
    }

    typedef struct { long long pid, uid, gid; } metalio_cred;
    static inline int metalio_peer_cred(int fd, metalio_cred *cred) {
    #if defined(__linux__)
        struct ucred peer;
    #elif defined(__OpenBSD__)
        struct sockpeercred peer;
    #endif
    #if defined(__linux__) || defined(__OpenBSD__)
        socklen_t size = sizeof peer;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) return errno;
        /* What Linux says of a socket without a peer. */
        if (peer.uid == (uid_t)-1) return ENOTCONN;
        cred->pid = peer.pid;
        cred->uid = peer.uid;
        cred->gid = peer.gid;
        return 0;
    #elif defined(_WIN32)
        /* SIO_AF_UNIX_GETPEERPID */
        ULONG pid = 0;
        DWORD size;
        if (WSAIoctl((SOCKET)fd, _WSAIOR(IOC_VENDOR, 256), NULL, 0, &pid, sizeof pid, &size, NULL, NULL) != 0)
            return metalio_wsa_error(WSAGetLastError());
        cred->pid = pid;
        cred->uid = cred->gid = -1;
        return 0;
    #elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__NetBSD__) || defined(__DragonFly__)
        uid_t uid;
        gid_t gid;
        if (getpeereid(fd, &uid, &gid) < 0) return errno;
        cred->pid = -1;
        cred->uid = uid;
        cred->gid = gid;
    #if defined(LOCAL_PEERPID) && defined(SOL_LOCAL)
        pid_t pid;
        socklen_t size = sizeof pid;
        if (getsockopt(fd, SOL_LOCAL, LOCAL_PEERPID, &pid, &size) == 0) cred->pid = pid;
    #endif
        return 0;
    #else
        (void)fd;
        (void)cred;
        return ENOSYS;
    #endif
    }
    """
    enum:
        ETOOMANYREFS
        TELLS_TRUNCATION "METALIO_TELLS_TRUNCATION"
        SCM_PIDFD "METALIO_SCM_PIDFD"
    ctypedef struct Cred "metalio_cred":
        long long pid
        long long uid
        long long gid
    # How many bytes wait to be read, or the negative number of an error.
    int unread "metalio_unread"(int fd) noexcept nogil
    int close_fd "metalio_close_fd"(int fd) noexcept nogil
    # Where recvmsg(2) cannot do it.
    void close_on_exec "metalio_close_on_exec"(int fd) noexcept nogil
    # 0, or the number of an error.
    int read_peer_cred "metalio_peer_cred"(int fd, Cred *cred) noexcept nogil
