"""When a device's sessions are asked for, made and believed in: paper sections 6.1 and 6.4, driven by peers' timers.

exchange.py makes and reads the messages, admission.py says which are read at all; this sends, and tells the timers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tulle.net.packet import Buffer
from tulle_wireguard.admission import Admission, Work
from tulle_wireguard.alarms import Alarms
from tulle_wireguard.constants import HANDSHAKE_DS, REKEY_TIMEOUT_S
from tulle_wireguard.endpoint import Endpoint
from tulle_wireguard.exchange import Exchange
from tulle_wireguard.messages import CookieReply, Initiation, Response, decode
from tulle_wireguard.outputs import Outputs, Send
from tulle_wireguard.peer import Peer
from tulle_wireguard.timers import IDLE, Event, Timer


class Sessions:
    """Of one device."""

    def __init__(
        self,
        exchange: Exchange,
        admission: Admission,
        alarms: Alarms,
        counters: Counter[str],
        confirm: Callable[[Peer, float, Outputs], None],
    ) -> None:
        """`confirm`: sends something, at least a keepalive, in a session that we started: the responder may send only
        after it has heard from us in it (paper section 5.4.5)."""
        self._exchange = exchange
        self._admission = admission
        self._alarms = alarms
        self._counters = counters
        self._confirm = confirm

    def received(self, datagram: Buffer, source: Endpoint, now: float) -> None:
        message = decode(datagram)
        if isinstance(message, CookieReply):
            self._exchange.read_cookie_reply(message, now)
        elif isinstance(message, Initiation | Response):
            self._admission.offer(bytes(datagram), source, now)
        else:
            self._counters["drop-malformed"] += 1

    def work(self, now: float, out: Outputs) -> None:
        """A few of the handshake messages that wait."""
        while (work := self._admission.next(now)) is not None:
            if work.cookie_reply is not None:
                out.sends.append(Send(work.source, 0, ((work.cookie_reply,),)))
                continue
            message = decode(work.message)
            if isinstance(message, Initiation):
                self._asked(message, work, now, out)
            elif isinstance(message, Response):
                self._answered(message, work, now, out)

    def _asked(self, message: Initiation, work: Work, now: float, out: Outputs) -> None:
        question = self._exchange.read_initiation(message, now)
        if question is None:
            return
        peer = question.peer
        peer.received_bytes += len(work.message)
        self.heard(peer, work.source, now)
        response = self._exchange.response(question, now)
        if response is not None:
            peer.sent_handshake_at = now
            self._send_handshake(peer, response, now, out)
            peer.timers.happened(Event.DERIVED, now)
        self._alarms.set(peer)

    def _answered(self, message: Response, work: Work, now: float, out: Outputs) -> None:
        peer = self._exchange.read_response(message, now)
        if peer is None:
            return
        peer.received_bytes += len(work.message)
        self.heard(peer, work.source, now)
        peer.timers.happened(Event.DERIVED, now)
        self.completed(peer, now)
        self._confirm(peer, now, out)
        self._alarms.set(peer)

    def ask(self, peer: Peer, now: float, out: Outputs) -> None:
        """A session is wanted, or a younger one. An attempt that is under way goes on by its timer."""
        if peer.timers.due(Timer.RETRANSMIT) == IDLE and not self._initiate(peer, now, out):
            peer.timers.happened(Event.TOO_SOON, now)

    def _initiate(self, peer: Peer, now: float, out: Outputs) -> bool:
        """At most one handshake message in five seconds, whoever asks (paper section 6.1). False: too soon."""
        if now < peer.sent_handshake_at + REKEY_TIMEOUT_S:
            return False
        message = self._exchange.initiation(peer, now)
        if message is None:
            return False
        peer.sent_handshake_at = now
        self._send_handshake(peer, message, now, out)
        peer.timers.happened(Event.SENT_INITIATION, now)
        return True

    def _send_handshake(self, peer: Peer, message: bytes, now: float, out: Outputs) -> None:
        if peer.where.current is not None:
            out.sends.append(Send(peer.where.current, HANDSHAKE_DS, ((message,),)))
            peer.sent_bytes += len(message)
            peer.timers.happened(Event.SENT, now)

    def heard(self, peer: Peer, source: Endpoint, now: float) -> None:
        peer.heard_at = now
        peer.where.proved(source)
        peer.timers.happened(Event.RECEIVED, now)

    def completed(self, peer: Peer, now: float) -> None:
        peer.last_handshake = now
        peer.timers.happened(Event.COMPLETED, now)
