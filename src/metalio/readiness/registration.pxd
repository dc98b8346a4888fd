from metalio.user_source cimport UserSource


cdef class Registration(UserSource):
    pass
