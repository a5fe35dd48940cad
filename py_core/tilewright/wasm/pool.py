"""How threads share a step: functions of the module itself, over words of the shared memory.

Every thread walks the same list of calls. Thread 0 is the host's; it alone runs what is not worth
sharing and *opens* each shared call. Whoever is awake *takes* pieces of it by compare-exchange,
large ones first, then smaller ones: a fast core takes more, and one that the machine has given to
someone else is not waited for unless it holds a piece. A thread that comes late finds a call over
and goes on to the next. Waiting is a short spin, then ``memory.atomic.wait32``: nothing spins while
there is no work.

The word ``CLAIM`` is ``number of the call << 12 | next piece``; ``STEP`` is the number of the step,
0 while its parameters are written.
"""

from __future__ import annotations

from .assembler import Expr, Function, Local, Module, Namespace, atomic, constant, i32, i64, select

CLAIM, DONE, PARKED, WAITING, STEP, FIELDS, COUNTER, RESTING, LATE = range(0, 576, 64)
"""Offsets of words, each in a cache line of its own. ``FIELDS``: family, counts, first call;
``RESTING``: threads that take no part; ``LATE``: calls whose end thread 0 had to be parked for."""
NBYTES = 576
PIECES = 4095
"""Most pieces of a call."""
QUIT = -1
"""The family that ends a thread."""
SPINS = 8000
"""Looks at a word before a thread is parked: some 20 microseconds."""
STEP_SPINS = 64000
"""The same within a step: longer than what only thread 0 does, because waking costs as much."""
_BITS = 12
_LONG = 100_000_000
_PATIENCE = 600
"""Waits of ``_LONG`` nanoseconds for a thread that holds a piece, before the step fails."""

_rmw = Namespace("i32.atomic.rmw")
_memory = Namespace("memory.atomic")


class Pool:
    """The functions of one module, over the words at ``address``."""

    def __init__(self, module: Module, address: int, threads: int) -> None:
        self.threads = threads
        self.address = address
        self._module = module
        self.open = self._add_open()
        self.take = self._add_take()
        self.finish = self._add_finish()
        self.join = self._add_join()

    def _at(self, word: int) -> Expr:
        return constant("i32", self.address + word)

    def _wake(self, f: Function, flag: int, word: int) -> None:
        """Notify who waits for ``word``, if anyone has said so."""
        with f.if_(atomic.load(self._at(flag))):
            f.do(
                atomic.store(self._at(flag), 0),
                _memory.notify(self._at(word), 0x7FFFFFFF),
            )

    def _pause(self, f: Function, spins: Local, flag: int, word: int, seen: Expr) -> None:
        """Count a look at ``word``; park after enough of them."""
        spins.set(spins + 1)
        with f.if_(spins > (SPINS if word == STEP else STEP_SPINS)):
            f.do(
                atomic.store(self._at(flag), 1),
                _memory.wait32(self._at(word), seen, i64.const(_LONG)),
            )

    def _add_open(self) -> Function:
        """``open(call)``: offer a call's pieces; thread 0 only."""
        f = self._module.function("open", ["i32"], export=False)
        (call,) = f.parameters
        f.do(atomic.store(self._at(DONE), 0), atomic.store(self._at(CLAIM), call << _BITS))
        self._wake(f, PARKED, CLAIM)
        return f

    def _add_take(self) -> Function:
        """``take(call, pieces)``: first piece | count << 12, or -1 when none are left.

        Waits until the call is open.
        """
        f = self._module.function("take", ["i32", "i32"], "i32", export=False)
        call, pieces = f.parameters
        got, spins = f.let(i32.const(-2)), f.let(i32.const(0))
        with f.while_(lambda: got.equals(-2)):
            word = f.let(atomic.load(self._at(CLAIM)))
            # Call numbers are 20 bits and wrap: their difference is signed.
            ahead = f.let(((word >> _BITS) - call) << _BITS)
            with f.if_(ahead.equals(0)):
                got.set(-1)
                first = f.let(word & PIECES)
                with f.if_(first < pieces):
                    got.set(-2)
                    share = f.let((pieces - first) // (2 * self.threads))
                    size = f.let(select(share > 1, share, i32.const(1)))
                    seen = _rmw.cmpxchg(self._at(CLAIM), word, word + size)
                    with f.if_(seen.equals(word)):
                        got.set(first | (size << _BITS))
            with f.else_():
                with f.if_(ahead > 0):
                    got.set(-1)
                with f.else_():
                    self._pause(f, spins, PARKED, CLAIM, word)
        f.result(got)
        return f

    def _add_finish(self) -> Function:
        """``finish(count)``: count pieces as done."""
        f = self._module.function("finish", ["i32"], export=False)
        f.do(_rmw.add(self._at(DONE), f.parameters[0]))
        self._wake(f, WAITING, DONE)
        return f

    def _add_join(self) -> Function:
        """``join(pieces)``: wait until all are done; thread 0 only. Traps where one never is."""
        f = self._module.function("join", ["i32"], export=False)
        (pieces,) = f.parameters
        done, spins = f.let(atomic.load(self._at(DONE))), f.let(i32.const(0))
        with f.while_(lambda: done < pieces):
            self._pause(f, spins, WAITING, DONE, done)
            with f.if_(spins.equals(STEP_SPINS + 1)):
                f.do(i32.store(self._at(LATE), i32.load(self._at(LATE)) + 1))
            with f.if_(spins > STEP_SPINS + _PATIENCE):
                f.trap()
            done.set(atomic.load(self._at(DONE)))
        return f

    def add_begin(self) -> Function:
        """Add ``begin(family, tokens, outputs, sequences)``: wake all; returns the first call."""
        f = self._module.function("begin", ["i32"] * 4, "i32")
        step = f.let(atomic.load(self._at(STEP)))
        f.do(atomic.store(self._at(STEP), 0))
        first = f.let(i32.load(self._at(COUNTER)))
        for n, value in enumerate((*f.parameters, first)):
            f.do(atomic.store(self._at(FIELDS), value, offset=4 * n))
        following = f.let((step + 1) & 0x3FFFFFFF)
        f.do(atomic.store(self._at(STEP), select(following, following, i32.const(1))))
        self._wake(f, PARKED, STEP)
        f.result(first)
        return f

    def add_end(self) -> Function:
        """Add ``end(calls)``: so many calls have been numbered."""
        f = self._module.function("end", ["i32"], export=False)
        f.do(i32.store(self._at(COUNTER), i32.load(self._at(COUNTER)) + f.parameters[0]))
        return f

    def late(self) -> Expr:
        """Return how many calls were waited for too long so far."""
        return atomic.load(self._at(LATE))

    def add_rest(self) -> Function:
        """Add ``rest(count)``: so many threads, the last ones, take no part from now on."""
        f = self._module.function("rest", ["i32"])
        f.do(
            atomic.store(self._at(RESTING), f.parameters[0]),
            _memory.notify(self._at(RESTING), 0x7FFFFFFF),
        )
        return f

    def add_work(self, families: list[Function]) -> Function:
        """Add ``work(number)``: walk every step with thread 0, until the family ``QUIT``."""
        f = self._module.function("work", ["i32"])
        (number,) = f.parameters
        last, spins, family = f.let(i32.const(0)), f.let(i32.const(0)), f.let(i32.const(0))
        with f.while_(lambda: family > QUIT):
            resting = f.let(atomic.load(self._at(RESTING)))
            with f.if_(number + resting >= self.threads):
                f.do(_memory.wait32(self._at(RESTING), resting, i64.const(_LONG)))
            with f.else_():
                step = f.let(atomic.load(self._at(STEP)))
                with f.if_(step.equals(last) | step.equals(0)):
                    self._pause(f, spins, PARKED, STEP, step)
                with f.else_():
                    fields = [f.let(atomic.load(self._at(FIELDS), offset=4 * n)) for n in range(5)]
                    # Written over meanwhile: look again.
                    with f.if_(atomic.load(self._at(STEP)).equals(step)):
                        last.set(step)
                        spins.set(0)
                        family.set(fields[0])
                        for index, run in enumerate(families):
                            with f.if_(family.equals(index)):
                                f.do(f.call(run, *fields[1:], number))
        return f
