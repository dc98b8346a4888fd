from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <stdint.h>
    #ifdef _WIN32
    #include <windows.h>
    static inline int64_t metalio_now(void) {
        LARGE_INTEGER frequency, count;
        QueryPerformanceFrequency(&frequency);
        QueryPerformanceCounter(&count);
        return count.QuadPart / frequency.QuadPart * 1000000000 +
               count.QuadPart % frequency.QuadPart * 1000000000 / frequency.QuadPart;
    }
    #else
    #include <time.h>
    static inline int64_t metalio_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    #endif
    """
    # Nanoseconds on the clock that timeouts are measured by.
    int64_t now "metalio_now"() noexcept nogil
