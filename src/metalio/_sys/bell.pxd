cdef class Bell:
    cdef int read_fd
    cdef int write_fd
    # Whether it stays rung until it is drained: a pipe fills up, a counter does not.
    cdef readonly bint needs_drain

    cdef int ring(self) noexcept nogil
    cdef int drain(self) noexcept nogil
    cdef int close(self) noexcept
