# Sockets, as POSIX has them, and the differences between its systems.  Windows is in winsock.pxd.

from libc.stdint cimport uint16_t, uint32_t

from metalio._sys.winsock cimport WINSOCK

cdef extern from *:
    """
    #ifndef _WIN32
    #include <arpa/inet.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <net/if.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <stddef.h>
    #include <string.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <sys/un.h>
    #include <unistd.h>
    #ifdef __sun
    #include <sys/filio.h>
    #endif

    /* FreeBSD's own gives everything to the newest. */
    #ifdef SO_REUSEPORT_LB
    #undef SO_REUSEPORT
    #define SO_REUSEPORT SO_REUSEPORT_LB
    #endif
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    #ifndef MSG_CMSG_CLOEXEC
    #define MSG_CMSG_CLOEXEC 0
    #endif
    #if !defined(IPV6_ADD_MEMBERSHIP) && defined(IPV6_JOIN_GROUP)
    #define IPV6_ADD_MEMBERSHIP IPV6_JOIN_GROUP
    #define IPV6_DROP_MEMBERSHIP IPV6_LEAVE_GROUP
    #endif
    #endif

    typedef struct {
        union {
            struct sockaddr any;
            struct sockaddr_in v4;
            struct sockaddr_in6 v6;
            struct sockaddr_un local;
            struct sockaddr_storage space;
        };
        socklen_t size;
    } metalio_address;

    #ifdef _WIN32
    /* Another socket that asks for the same address would take it over: nothing has to be set here. */
    #define METALIO_REUSE_ADDRESS 0
    #define METALIO_WINDOWS 1

    static inline int metalio_accept(int fd, metalio_address *peer) {
        peer->size = sizeof peer->space;
        int accepted = metalio_prepare(accept((SOCKET)fd, &peer->any, &peer->size));
        /* It was reset while it was waiting. */
        return accepted == -ECONNRESET || accepted == -ENOTCONN ? -ECONNABORTED : accepted;
    }
    #else
    #define METALIO_REUSE_ADDRESS 1
    #define METALIO_WINDOWS 0
    #define metalio_close close
    #define metalio_shutdown shutdown

    /* Everywhere: non-blocking, not inherited by what is executed, and no SIGPIPE. */
    static inline int metalio_prepare(int fd) {
        if (fd < 0) return -errno;
    #ifdef SO_NOSIGPIPE
        int on = 1;
        setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
    #endif
    #if !defined(SOCK_NONBLOCK) || !defined(SOCK_CLOEXEC)
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
            int error = errno;
            close(fd);
            return -error;
        }
    #endif
        return fd;
    }

    #if defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
    #define METALIO_SOCK_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)
    #define metalio_accept4(fd, address, size) accept4(fd, address, size, METALIO_SOCK_FLAGS)
    #else
    #define METALIO_SOCK_FLAGS 0
    #define metalio_accept4(fd, address, size) accept(fd, address, size)
    #endif

    static inline int metalio_socket(int family, int type) {
        return metalio_prepare(socket(family, type | METALIO_SOCK_FLAGS, 0));
    }

    static inline int metalio_pair(int family, int type, int *fds) {
        if (socketpair(family, type | METALIO_SOCK_FLAGS, 0, fds) < 0) return errno;
        int first = metalio_prepare(fds[0]), second = metalio_prepare(fds[1]);
        return first < 0 ? -first : second < 0 ? -second : 0;
    }

    static inline int metalio_accept(int fd, metalio_address *peer) {
        peer->size = sizeof peer->space;
        return metalio_prepare(metalio_accept4(fd, &peer->any, &peer->size));
    }

    static inline int metalio_set_nonblocking(int fd) {
        int on = 1;
        return ioctl(fd, FIONBIO, &on) < 0 ? errno : 0;
    }

    static inline int metalio_duplicate(int fd) {
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return copy < 0 ? -errno : copy;
    }
    #endif
    """
    ctypedef unsigned int socklen_t

    struct sockaddr:
        unsigned short sa_family

    struct in_addr:
        uint32_t s_addr

    struct in6_addr:
        pass

    struct sockaddr_in:
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        unsigned short sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

    struct sockaddr_un:
        unsigned short sun_family
        char sun_path[108]

    struct sockaddr_storage:
        pass

    # By another name, since sockets have a property of this one.
    struct linger_option "linger":
        int l_onoff
        int l_linger

    struct iovec:
        void *iov_base
        size_t iov_len

    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags

    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type

    cmsghdr *CMSG_FIRSTHDR(msghdr *message) nogil
    cmsghdr *CMSG_NXTHDR(msghdr *message, cmsghdr *control) nogil
    unsigned char *CMSG_DATA(cmsghdr *control) nogil
    size_t CMSG_LEN(size_t size) nogil
    size_t CMSG_SPACE(size_t size) nogil

    ctypedef struct Address "metalio_address":
        sockaddr any
        sockaddr_in v4
        sockaddr_in6 v6
        sockaddr_un local
        sockaddr_storage space
        socklen_t size

    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        AF_UNSPEC
        SOCK_STREAM
        SOCK_DGRAM
        SOL_SOCKET
        SO_REUSEADDR
        SO_REUSEPORT
        SO_ERROR
        SO_KEEPALIVE
        SO_LINGER
        SO_BROADCAST
        SO_TYPE
        SO_ACCEPTCONN
        IPPROTO_IP
        IPPROTO_IPV6
        IPPROTO_TCP
        IPPROTO_UDP
        IP_TTL
        IP_MULTICAST_LOOP
        IP_MULTICAST_TTL
        IP_MULTICAST_IF
        IP_ADD_MEMBERSHIP
        IP_DROP_MEMBERSHIP
        IPV6_V6ONLY
        IPV6_UNICAST_HOPS
        IPV6_MULTICAST_LOOP
        IPV6_MULTICAST_HOPS
        IPV6_MULTICAST_IF
        IPV6_ADD_MEMBERSHIP
        IPV6_DROP_MEMBERSHIP
        TCP_NODELAY
        MSG_PEEK
        MSG_NOSIGNAL
        MSG_TRUNC
        MSG_CTRUNC
        MSG_CMSG_CLOEXEC
        SCM_RIGHTS
        SHUT_RD
        SHUT_WR
        SHUT_RDWR

    enum:
        # Whether a listener has to set SO_REUSEADDR, so that it can be started again at once.
        REUSE_ADDRESS "METALIO_REUSE_ADDRESS"
        WINDOWS "METALIO_WINDOWS"

    # A new descriptor, or the negative number of an error.
    int open_socket "metalio_socket"(int family, int type) nogil
    int accept_socket "metalio_accept"(int fd, Address *peer) nogil
    int duplicate "metalio_duplicate"(int fd) nogil
    # 0, or the number of an error.
    int open_pair "metalio_pair"(int family, int type, int *fds) nogil
    int set_nonblocking "metalio_set_nonblocking"(int fd) nogil

    # As in the C library: -1 and errno.
    int close_socket "metalio_close"(int fd) nogil
    int bind(int fd, sockaddr *address, socklen_t size) nogil
    int listen(int fd, int backlog) nogil
    int connect(int fd, sockaddr *address, socklen_t size) nogil
    int shutdown "metalio_shutdown"(int fd, int how) nogil
    int getsockname(int fd, sockaddr *address, socklen_t *size) nogil
    int getpeername(int fd, sockaddr *address, socklen_t *size) nogil
    int getsockopt(int fd, int level, int name, void *value, socklen_t *size) nogil
    int setsockopt(int fd, int level, int name, const void *value, socklen_t size) nogil
    ssize_t recv(int fd, void *buffer, size_t size, int flags) nogil
    ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, sockaddr *address, socklen_t *address_size) nogil
    ssize_t recvmsg(int fd, msghdr *message, int flags) nogil
    ssize_t send(int fd, const void *data, size_t size, int flags) nogil
    ssize_t sendto(int fd, const void *data, size_t size, int flags, sockaddr *address, socklen_t address_size) nogil
    ssize_t sendmsg(int fd, const msghdr *message, int flags) nogil
    ssize_t readv(int fd, const iovec *vector, int count) nogil
    ssize_t writev(int fd, const iovec *vector, int count) nogil

    int inet_pton(int family, const char *text, void *address) nogil
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size) nogil
    uint16_t htons(uint16_t number) nogil
    uint16_t ntohs(uint16_t number) nogil
    uint32_t htonl(uint32_t number) nogil
    uint32_t ntohl(uint32_t number) nogil
