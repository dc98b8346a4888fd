from metalio.channel.message_queue cimport MessageQueue
from metalio.channel.sending_end cimport SendingEnd


cdef class LoopSender(SendingEnd):
    pass


cdef LoopSender new_loop_sender(MessageQueue queue)
