cdef extern from *:
    """
    #include <errno.h>
    #include <poll.h>
    #include <signal.h>
    #include <sys/types.h>
    #include <sys/event.h>
    #include <sys/wait.h>

    /* On macOS the status comes to who asks for it, which only the parent may. */
    #ifdef NOTE_EXITSTATUS
    #define METALIO_EXIT_STATUS NOTE_EXITSTATUS
    #else
    #define METALIO_EXIT_STATUS 0
    #endif

    /* How a child has ended, without waiting for it: 1 and what waitpid(2) would say of it, 0 if it has not, or the
       negative number of an error. */
    static inline int metalio_ended(int number, int patient, int *status) {
    #ifdef WNOWAIT
        siginfo_t info;
        info.si_pid = 0;
        info.si_code = 0;
        if (waitid(P_PID, (id_t)number, &info, WEXITED | WNOWAIT | (patient ? 0 : WNOHANG)) < 0) return -errno;
        /* macOS does not tell the number. */
        if (info.si_pid == 0 && info.si_code == 0) return 0;
        *status = info.si_code == CLD_EXITED ? (info.si_status & 0xFF) << 8 : info.si_status & 0x7F;
        return 1;
    #else
        (void)number, (void)patient, (void)status;
        return -ENOSYS;
    #endif
    }

    static inline int metalio_is_readable(int fd) {
        struct pollfd look = {fd, POLLIN, 0};
        return poll(&look, 1, 0) > 0;
    }
    """
    enum:
        EVFILT_PROC
        EXIT_STATUS "METALIO_EXIT_STATUS"
    unsigned int NOTE_EXIT
    int ended "metalio_ended"(int number, bint patient, int *status) noexcept nogil
    bint is_readable "metalio_is_readable"(int fd) noexcept nogil
