"""When a peer does something without being asked: paper section 6, as one table of what each event does to each timer.

Pure: `now` comes in, deadlines and actions come out. Events and timers are a peer's; nothing here knows a message.

    what happens                            retransmit  keepalive     new handshake  wipe   persistent
    SENT_DATA                                                         start if idle
    RECEIVED_DATA                                       start, again
    SENT (anything authenticated)                       stop                                start
    RECEIVED (anything authenticated)                                 stop                  start
    SENT_INITIATION                         start
    TOO_SOON                                start
    COMPLETED (a handshake)                 stop
    DERIVED (keys of a session)                                                      start

"start, again": it starts where it is idle; where it runs, another keepalive follows the one that is due, since what
has come in meanwhile must be answered as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, IntEnum, auto

from tulle_wireguard.constants import (
    KEEPALIVE_TIMEOUT_S,
    NEW_HANDSHAKE_AFTER_S,
    REKEY_ATTEMPT_TIME_S,
    REKEY_JITTER_S,
    REKEY_TIMEOUT_S,
    WIPE_AFTER_S,
)


class Timer(IntEnum):
    RETRANSMIT = 0
    KEEPALIVE = 1
    NEW_HANDSHAKE = 2
    WIPE = 3
    PERSISTENT = 4


class Event(Enum):
    SENT_DATA = auto()
    """A transport message with something in it."""
    RECEIVED_DATA = auto()
    SENT = auto()
    RECEIVED = auto()
    SENT_INITIATION = auto()
    TOO_SOON = auto()
    """An initiation was due, but a handshake message was sent just before: it is tried again."""
    COMPLETED = auto()
    DERIVED = auto()


class Action(Enum):
    """What a timer that ran out asks for."""

    RETRY_HANDSHAKE = auto()
    START_HANDSHAKE = auto()
    """The other side is silent: it may have lost its keys."""
    GIVE_UP = auto()
    """No answer for 90 s: drop what waits, until somebody wants to send again."""
    KEEPALIVE = auto()
    WIPE = auto()


class Do(Enum):
    START = auto()
    START_IF_IDLE = auto()
    START_AGAIN = auto()
    STOP = auto()


TABLE: dict[Event, tuple[tuple[Timer, Do], ...]] = {
    Event.SENT_DATA: ((Timer.NEW_HANDSHAKE, Do.START_IF_IDLE),),
    Event.RECEIVED_DATA: ((Timer.KEEPALIVE, Do.START_AGAIN),),
    Event.SENT: ((Timer.KEEPALIVE, Do.STOP), (Timer.PERSISTENT, Do.START)),
    Event.RECEIVED: ((Timer.NEW_HANDSHAKE, Do.STOP), (Timer.PERSISTENT, Do.START)),
    Event.SENT_INITIATION: ((Timer.RETRANSMIT, Do.START),),
    Event.TOO_SOON: ((Timer.RETRANSMIT, Do.START),),
    Event.COMPLETED: ((Timer.RETRANSMIT, Do.STOP),),
    Event.DERIVED: ((Timer.WIPE, Do.START),),
}

_SECONDS = {
    Timer.RETRANSMIT: REKEY_TIMEOUT_S,
    Timer.KEEPALIVE: KEEPALIVE_TIMEOUT_S,
    Timer.NEW_HANDSHAKE: NEW_HANDSHAKE_AFTER_S,
    Timer.WIPE: WIPE_AFTER_S,
}
_JITTERED = {Timer.RETRANSMIT, Timer.NEW_HANDSHAKE}

IDLE = math.inf


class Timers:
    """The five timers of one peer."""

    __slots__ = ("_another", "_attempting_since", "_chance", "_due", "persistent_s")

    def __init__(self, chance: Callable[[], float]) -> None:
        """`chance`: a number from 0 up to 1, anew at each call."""
        self.persistent_s = 0
        """Persistent keepalive (paper section 6.5); 0: none."""
        self._chance = chance
        self._due = [IDLE] * len(Timer)
        self._another = False
        self._attempting_since: float | None = None

    def happened(self, event: Event, now: float) -> None:
        if event in (Event.SENT_INITIATION, Event.TOO_SOON) and self._attempting_since is None:
            self._attempting_since = now
        elif event is Event.COMPLETED:
            self._attempting_since = None
        for timer, what in TABLE[event]:
            running = self._due[timer] != IDLE
            if what is Do.STOP:
                self._stop(timer)
            elif what is Do.START or not running:
                self._start(timer, now)
            elif what is Do.START_AGAIN:
                self._another = True

    def wanted(self, now: float) -> None:
        """Somebody wants to send: the 90 s in which a handshake is tried begin anew (paper section 6.4)."""
        if self._attempting_since is not None:
            self._attempting_since = now

    def try_now(self, now: float) -> None:
        """The handshake that is being tried cannot succeed any more: where one is, another is due at once."""
        if self._due[Timer.RETRANSMIT] != IDLE:
            self._due[Timer.RETRANSMIT] = now
            self.wanted(now)

    def set_persistent(self, seconds: int, now: float) -> None:
        """0: none. It begins at once, so that a mapping on the way is there before it is needed."""
        before, self.persistent_s = self.persistent_s, seconds
        if not seconds:
            self._stop(Timer.PERSISTENT)
        elif seconds != before:
            self._due[Timer.PERSISTENT] = now

    def deadline(self) -> float:
        """When `expire` is to be called; infinity where nothing runs."""
        return min(self._due)

    def due(self, timer: Timer) -> float:
        return self._due[timer]

    def expire(self, now: float) -> Iterator[Action]:
        """What is to be done now, one after the other: take one, do it and tell what happened, then take the next."""
        for timer in Timer:
            if self._due[timer] <= now:
                self._stop(timer, keep_another=True)
                yield from self._ran_out(timer, now)

    def export(self) -> list[float | None]:
        """When each is due, for `restore` in another process of this boot."""
        return [None if due == IDLE else due for due in self._due]

    def restore(self, due: Sequence[float | None]) -> None:
        """What `export` gave. A handshake is not under way here, but its timer is: it starts one."""
        self._due = [IDLE if one is None else one for one in [*due, *[None] * len(Timer)][: len(Timer)]]

    def stop_all(self) -> None:
        """The peer is gone, or has nothing to keep alive."""
        for timer in Timer:
            self._stop(timer)
        self._attempting_since = None

    def _ran_out(self, timer: Timer, now: float) -> Iterator[Action]:
        if timer is Timer.RETRANSMIT:
            since = self._attempting_since
            if since is not None and now >= since + REKEY_ATTEMPT_TIME_S:
                self._attempting_since = None
                self._stop(Timer.KEEPALIVE)
                if self._due[Timer.WIPE] == IDLE:
                    self._start(Timer.WIPE, now)
                yield Action.GIVE_UP
            else:
                yield Action.RETRY_HANDSHAKE
        elif timer is Timer.KEEPALIVE:
            another, self._another = self._another, False
            yield Action.KEEPALIVE
            if another:
                self._start(timer, now)
        elif timer is Timer.NEW_HANDSHAKE:
            yield Action.START_HANDSHAKE
        elif timer is Timer.WIPE:
            yield Action.WIPE
        elif self.persistent_s:
            # Started here too: where nothing can be sent, nothing would start it.
            self._start(timer, now)
            yield Action.KEEPALIVE

    def _start(self, timer: Timer, now: float) -> None:
        if timer is Timer.PERSISTENT:
            self._due[timer] = now + self.persistent_s if self.persistent_s else IDLE
            return
        jitter = self._chance() * REKEY_JITTER_S if timer in _JITTERED else 0.0
        self._due[timer] = now + (_SECONDS[timer] + jitter)

    def _stop(self, timer: Timer, *, keep_another: bool = False) -> None:
        self._due[timer] = IDLE
        if timer is Timer.KEEPALIVE and not keep_another:
            self._another = False
