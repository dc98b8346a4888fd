from metalio.timer.wheel cimport Wheel
from metalio.user_source cimport UserSource


cdef class Timer(UserSource):
    cdef Wheel wheel
    # Each at the place that its timeout has in the wheel, whose lock is this list's as well.
    cdef list states
