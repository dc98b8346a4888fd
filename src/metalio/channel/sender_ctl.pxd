from metalio.channel.link cimport Link
from metalio.channel.sending_end cimport SendingEnd


cdef class SenderCtl(SendingEnd):
    pass


cdef SenderCtl new_sender_ctl(Link link)
