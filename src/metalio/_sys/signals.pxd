from posix.types cimport pid_t


cdef extern from *:
    """
    #include <errno.h>
    #include <sched.h>
    #include <signal.h>
    #include <sys/types.h>
    #include <unistd.h>

    typedef struct sigaction metalio_action;
    typedef void (*metalio_plain)(int);
    typedef void (*metalio_full)(int, siginfo_t *, void *);

    #define metalio_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define metalio_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define metalio_swap(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    #define metalio_add(p, v) ((void)__atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST))
    #define metalio_set_bits(p, v) ((void)__atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST))
    #define metalio_clear_bits(p, v) __atomic_fetch_and((p), ~(v), __ATOMIC_SEQ_CST)
    #define metalio_restore_errno(v) ((void)(errno = (v)))

    static inline int metalio_get_action(int number, metalio_action *action) {
        return sigaction(number, NULL, action) < 0 ? errno : 0;
    }
    static inline int metalio_set_action(int number, const metalio_action *action) {
        return sigaction(number, action, NULL) < 0 ? errno : 0;
    }
    /* The handler of an action, whichever of the two kinds it is of; NULL where there is none. */
    static inline metalio_plain metalio_plain_of(const metalio_action *action) {
        if (action->sa_flags & SA_SIGINFO || action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN) return NULL;
        return action->sa_handler;
    }
    static inline metalio_full metalio_full_of(const metalio_action *action) {
        return action->sa_flags & SA_SIGINFO ? action->sa_sigaction : NULL;
    }
    static inline int metalio_ignores(const metalio_action *action) {
        return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_IGN;
    }
    static inline void metalio_block_others(sigset_t *set) {
        static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
        sigfillset(set);
        for (size_t index = 0; index < sizeof faults / sizeof *faults; index++) sigdelset(set, faults[index]);
    }
    """
    ctypedef struct siginfo_t:
        pass
    ctypedef struct sigset_t:
        pass
    ctypedef struct Action "metalio_action":
        void sa_sigaction(int, siginfo_t *, void *) noexcept nogil
        sigset_t sa_mask
        int sa_flags
    enum:
        SA_NOCLDSTOP
        SA_NOCLDWAIT
        SA_ONSTACK
        SA_RESTART
        SA_SIGINFO
    ctypedef void (*Plain "metalio_plain")(int) noexcept nogil
    ctypedef void (*Full "metalio_full")(int, siginfo_t *, void *) noexcept nogil

    # Sequentially consistent, and without a lock, as a signal handler needs it.
    Plain load_plain "metalio_load"(Plain *place) noexcept nogil
    Full load_full "metalio_load"(Full *place) noexcept nogil
    void store_plain "metalio_store"(Plain *place, Plain value) noexcept nogil
    void store_full "metalio_store"(Full *place, Full value) noexcept nogil
    Listener *load_listener "metalio_load"(Listener **place) noexcept nogil
    void store_listener "metalio_store"(Listener **place, Listener *value) noexcept nogil
    int load "metalio_load"(int *place) noexcept nogil
    void store "metalio_store"(int *place, int value) noexcept nogil
    int swap "metalio_swap"(int *place, int value) noexcept nogil
    void add "metalio_add"(int *place, int value) noexcept nogil
    unsigned int load_bits "metalio_load"(unsigned int *place) noexcept nogil
    void store_bits "metalio_store"(unsigned int *place, unsigned int value) noexcept nogil
    void set_bits "metalio_set_bits"(unsigned int *place, unsigned int bits) noexcept nogil
    unsigned int clear_bits "metalio_clear_bits"(unsigned int *place, unsigned int bits) noexcept nogil

    void restore_errno "metalio_restore_errno"(int value) noexcept nogil
    # 0 or the number of an error.
    int get_action "metalio_get_action"(int number, Action *action) noexcept nogil
    int set_action "metalio_set_action"(int number, const Action *action) noexcept nogil
    Plain plain_of "metalio_plain_of"(const Action *action) noexcept nogil
    Full full_of "metalio_full_of"(const Action *action) noexcept nogil
    bint ignores "metalio_ignores"(const Action *action) noexcept nogil
    # All but those that come from an error in the handler itself.
    void block_others "metalio_block_others"(sigset_t *set) noexcept nogil
    int raise_signal "raise"(int number) noexcept nogil
    int sched_yield() noexcept nogil
    pid_t getpid() noexcept nogil


# Larger than any signal's number anywhere.
cdef enum:
    NUMBERS = 128


# What one Signals object hears.  These are never freed, since a handler may be looking at one in another thread; they
# are used again.  One bit a number.
cdef struct Listener:
    unsigned int wanted[4]
    unsigned int pending[4]
    # What is written to; -1 while nobody owns it.
    int bell
    # Set by the first signal that rings, cleared once the ring was heard.
    int rung
    # How many handlers may be about to write to the bell.
    int visitors
    bint taken
    Listener *next


# Of what kind a signal's handler is, as signal.getsignal() says: not Python's, Python's, or the one of SIGINT that raises
# KeyboardInterrupt.
cdef enum Kind:
    NOT_PYTHONS = 0
    PYTHONS = 1
    KEYBOARD_INTERRUPT = 2


# What the process does with one signal.
cdef struct Disposition:
    # How many listeners want it.
    int count
    bint installed
    # Whether what is there instead of the handler, or was so before, may call it.
    bint replaced
    # The flags it was installed with.
    int flags
    # What was there before, and the handler that is to be called as well: of one of the two kinds, or neither.
    Action before
    Plain plain
    Full full


cdef Listener *new_listener(int bell) except NULL
# 0 or the number of an error.
cdef int add_number(Listener *listener, int number, int kind) except -1
# 1 if it was somebody else's, 0 if not, or the negative number of an error.
cdef int take_back(int number, int kind) except -1000
# Know Python's own handler by this signal's.
cdef int learn(int number, int kind) except -1
cdef int drop_listener(Listener *listener) noexcept
# What the consumer does, in this order, after it has read the bell: say so, and take what is pending, number by number.
cdef int heard(Listener *listener) noexcept
cdef int next_pending(Listener *listener, int number) noexcept
# Ring for what is still pending.
cdef int ring_again(Listener *listener) noexcept
# In the child of a fork.
cdef int forget_listeners() noexcept

cdef void on_signal(int number, siginfo_t *info, void *context) noexcept nogil
