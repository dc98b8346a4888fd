from metalio.channel.link cimport Tally
from metalio.user_source cimport UserSource


cdef class ReceiverCtl(UserSource):
    # Never changes.
    cdef Tally tally


cdef ReceiverCtl new_receiver_ctl()
