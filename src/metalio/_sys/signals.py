"""What the process does with its signals, and who listens.

Facts.  A signal has one disposition a process.  Python lets the main thread alone call `signal.signal`, and has one
wakeup descriptor, which an asyncio loop takes for itself.  A signalfd reports what is blocked: a signal would have to
be blocked in every thread there is, Python's own handlers would never run, and children would inherit the mask, also
through exec.

Decision.  A handler in C of the library's own, installed by sigaction(2): from any thread, beside `signal.signal`,
`signal.set_wakeup_fd` and asyncio, which all go on as before, since it calls the handler that it found.  It notes the
number in each listener's set, and rings that listener's bell unless it is rung already; so nothing is lost, however
many signals come, and no pipe can be full.  exec resets handlers, so programs that are executed know nothing of it.

Dangers, and what is done about them:

- The handler may interrupt anything, and runs in several threads at once.  It does atomic operations, getpid(2) and
  write(2), keeps errno, and takes no lock.  Listeners are never freed; whoever gives up a bell waits for the handlers
  that may be about to write to it, before the descriptor becomes another's.
- A handler that is installed later, by `signal.signal` for example, replaces this one, and no one is told.  `take_back`
  installs it again, and it calls the later one too if that is Python's.  Any other may itself call what it has
  replaced, or raise the signal again for it, which comes back here, and so on for ever.  So that one is left out.
- In the child of a fork the bells are still the parent's.  What was there before is put back in the child before its
  Python code goes on.  A signal that is quicker than that, or comes to a child that never runs Python code, finds this
  handler, which then puts back what was before, and has the signal delivered once more.

Cost.  `signal.getsignal` does not know of this handler.  So a program that replaces a handler for a while, and then
puts back what that function said, removes it.
"""

import cython
from cython.cimports.cpython.mem import PyMem_RawCalloc
from cython.cimports.libc.errno import EINTR, errno
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.posix.types import pid_t
from cython.cimports.posix.unistd import write

_first = cython.declare(cython.pointer[Listener], cython.NULL)
_dispositions = cython.declare(Disposition[128])
# Python's own handler, once it was seen.
_pythons = cython.declare(Plain, cython.NULL)
_owner = cython.declare(pid_t, getpid())
# Held by who changes any of this; free where there is a GIL.
_lock = cython.declare(object, object())


# -- The handler ------------------------------------------------------------------------------------------------------


def on_signal(number, info, context):
    saved: cython.int = errno
    disposition: cython.pointer[Disposition] = cython.address(_dispositions[number])
    if getpid() != _owner:
        # It is blocked while this runs, so it is delivered again, to what was there before, when this returns.
        set_action(number, cython.address(disposition.before))
        raise_signal(number)
        restore_errno(saved)
        return
    word: cython.int = number >> 5
    bit: cython.uint = cython.cast(cython.uint, 1) << (number & 31)
    listener: cython.pointer[Listener] = load_listener(cython.address(_first))
    while listener != cython.NULL:
        if load_bits(cython.address(listener.wanted[word])) & bit:
            add(cython.address(listener.visitors), 1)
            # Once more: it may have been dropped and be another's by now, but from here on it is not.
            if load_bits(cython.address(listener.wanted[word])) & bit:
                set_bits(cython.address(listener.pending[word]), bit)
                _ring(listener)
            add(cython.address(listener.visitors), -1)
        listener = load_listener(cython.address(listener.next))
    restore_errno(saved)
    plain: Plain = load_plain(cython.address(disposition.plain))
    full: Full = load_full(cython.address(disposition.full))
    if plain != cython.NULL:
        plain(number)
    elif full != cython.NULL:
        full(number, info, context)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _ring(listener: cython.pointer[Listener]) -> cython.int:
    # Cleared by heard(), after the bell was read and before what is pending is taken.  So who finds it set has noted
    # its number before that, and it will be taken; who finds it clear rings, and is heard next time.
    if swap(cython.address(listener.rung), 1):
        return 0
    bell: cython.int = load(cython.address(listener.bell))
    one: uint64_t = 1
    while bell >= 0 and write(bell, cython.address(one), 8) < 0 and errno == EINTR:
        pass
    return 0


# -- Who listens ------------------------------------------------------------------------------------------------------


def new_listener(bell):
    """A listener without a number yet, which rings this descriptor."""
    listener: cython.pointer[Listener]
    with cython.critical_section(_lock):
        listener = _first
        while listener != cython.NULL and listener.taken:
            listener = listener.next
        if listener == cython.NULL:
            listener = cython.cast(cython.pointer[Listener], PyMem_RawCalloc(1, cython.sizeof(Listener)))
            if listener == cython.NULL:
                raise MemoryError
            listener.next = _first
            store_listener(cython.address(_first), listener)
        word: cython.int
        for word in range(4):
            store_bits(cython.address(listener.pending[word]), 0)
        store(cython.address(listener.rung), 0)
        store(cython.address(listener.bell), bell)
        listener.taken = True
    return listener


def add_number(listener, number, kind):
    error: cython.int = 0
    with cython.critical_section(_lock):
        disposition: cython.pointer[Disposition] = cython.address(_dispositions[number])
        # Before the handler is there, so that the first signal is heard already.
        set_bits(cython.address(listener.wanted[number >> 5]), cython.cast(cython.uint, 1) << (number & 31))
        disposition.count += 1
        result: cython.int = _install(number, kind)
        if result < 0:
            error = -result
            _remove(listener, number)
    return error


def learn(number, kind):
    found: Action
    with cython.critical_section(_lock):
        if get_action(number, cython.address(found)) == 0:
            _learn(cython.address(found), kind)
    return 0


def take_back(number, kind):
    with cython.critical_section(_lock):
        return _install(number, kind)


def drop_listener(listener):
    number: cython.int
    with cython.critical_section(_lock):
        for number in range(1, NUMBERS):
            if listener.wanted[number >> 5] & (cython.cast(cython.uint, 1) << (number & 31)):
                _remove(listener, number)
        store(cython.address(listener.bell), -1)
    if load(cython.address(listener.visitors)):
        with cython.nogil:
            while load(cython.address(listener.visitors)):
                sched_yield()
    with cython.critical_section(_lock):
        listener.taken = False
    return 0


def heard(listener):
    store(cython.address(listener.rung), 0)
    return 0


def next_pending(listener, number):
    """The first pending one from `number` on, which is pending no longer; 0 if there is none."""
    bit: cython.uint
    while number < NUMBERS:
        bit = cython.cast(cython.uint, 1) << (number & 31)
        if load_bits(cython.address(listener.pending[number >> 5])) < bit:
            # Nothing from here on in this word.
            number = (number | 31) + 1
        elif clear_bits(cython.address(listener.pending[number >> 5]), bit) & bit:
            return number
        else:
            number += 1
    return 0


def ring_again(listener):
    word: cython.int
    for word in range(4):
        if load_bits(cython.address(listener.pending[word])):
            return _ring(listener)
    return 0


def forget_listeners():
    global _owner
    number: cython.int
    word: cython.int
    for number in range(1, NUMBERS):
        _dispositions[number].count = 0
        if _dispositions[number].installed:
            _restore(number)
    listener: cython.pointer[Listener] = _first
    while listener != cython.NULL:
        for word in range(4):
            store_bits(cython.address(listener.wanted[word]), 0)
        listener.bell = -1
        listener.visitors = 0
        listener.taken = False
        listener = listener.next
    _owner = getpid()
    return 0


# -- Dispositions; the lock is held -----------------------------------------------------------------------------------


@cython.cfunc
@cython.exceptval(check=False)
def _install(number: cython.int, kind: cython.int) -> cython.int:
    """Have the handler in place: 1 if another was there, 0 if it was itself, or the negative number of an error."""
    disposition: cython.pointer[Disposition] = cython.address(_dispositions[number])
    found: Action
    ours: Action
    error: cython.int = get_action(number, cython.address(found))
    if error:
        return -error
    if _is_ours(cython.address(found)):
        return 0
    if not disposition.installed:
        _learn(cython.address(found), kind)
    _judge(disposition, cython.address(found))
    plain: Plain = plain_of(cython.address(found))
    full: Full = full_of(cython.address(found))
    if disposition.replaced:
        # This one is left out.  What would it have called, or did so before?
        same: cython.bint = plain == disposition.plain and full == disposition.full
        plain = _pythons
        full = cython.NULL
        if kind == NOT_PYTHONS:
            forget: cython.bint = same or disposition.plain == _pythons
            plain = cython.NULL if forget else disposition.plain
            full = cython.NULL if forget else disposition.full
    if kind == KEYBOARD_INTERRUPT and plain == _pythons:
        plain = cython.NULL
    ours.sa_sigaction = on_signal
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | found.sa_flags & (SA_NOCLDSTOP | SA_NOCLDWAIT)
    if ignores(cython.address(found)):
        # Where SIGCHLD is ignored, nobody waits for children.
        ours.sa_flags |= SA_NOCLDWAIT
    if plain == cython.NULL and full == cython.NULL:
        ours.sa_flags |= SA_RESTART
    else:
        # System calls have to end early for Python's own handlers to run.
        ours.sa_flags |= found.sa_flags & SA_RESTART
    # Another handler, on top of this one, might not return, but jump out of both.
    block_others(cython.address(ours.sa_mask))
    disposition.before = found
    disposition.flags = ours.sa_flags
    store_plain(cython.address(disposition.plain), plain)
    store_full(cython.address(disposition.full), full)
    error = set_action(number, cython.address(ours))
    if error:
        return -error
    disposition.installed = True
    return 1


@cython.cfunc
@cython.exceptval(check=False)
def _learn(found: cython.pointer[Action], kind: cython.int) -> cython.int:
    global _pythons
    if kind != NOT_PYTHONS and _pythons == cython.NULL:
        _pythons = plain_of(found)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _judge(disposition: cython.pointer[Disposition], found: cython.pointer[Action]) -> cython.int:
    """See whether what was found in place of the handler may lead back to it: only that of another C library may."""
    if full_of(found) == cython.NULL and (plain_of(found) == cython.NULL or plain_of(found) == _pythons):
        disposition.replaced = False
    elif disposition.installed:
        disposition.replaced = True
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _remove(listener: cython.pointer[Listener], number: cython.int) -> cython.int:
    clear_bits(cython.address(listener.wanted[number >> 5]), cython.cast(cython.uint, 1) << (number & 31))
    _dispositions[number].count -= 1
    if _dispositions[number].count == 0 and _dispositions[number].installed:
        _restore(number)
    return 0


@cython.cfunc
@cython.exceptval(check=False)
def _restore(number: cython.int) -> cython.int:
    """Put back what was there, unless somebody has replaced the handler."""
    disposition: cython.pointer[Disposition] = cython.address(_dispositions[number])
    current: Action
    if get_action(number, cython.address(current)) == 0 and not _is_ours(cython.address(current)):
        _judge(disposition, cython.address(current))
        disposition.installed = False
        return 0
    disposition.installed = False
    # What signal.siginterrupt changed meanwhile was meant for the handler that is put back.
    disposition.before.sa_flags ^= (current.sa_flags ^ disposition.flags) & SA_RESTART
    return set_action(number, cython.address(disposition.before))


@cython.cfunc
@cython.exceptval(check=False)
def _is_ours(action: cython.pointer[Action]) -> cython.bint:
    return full_of(action) == cython.cast(Full, on_signal)
