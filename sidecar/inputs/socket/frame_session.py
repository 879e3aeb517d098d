"""A connection of an agent's client: binary frames, of which only one kind is answered.

What is wrong cannot be said to such a client; it is counted, said in the log, and events become dead letters.
"""

from collections.abc import Callable

from sidecar.core.errors import Rejected
from sidecar.inputs.counts import InputCounts
from sidecar.inputs.socket.agent_frames import BadFrame, Frame, FrameDecoder, GetConfiguration
from sidecar.inputs.socket.log_throttle import LogThrottle
from sidecar.inputs.socket.peer_credentials import PeerCredentials
from sidecar.inputs.socket.sessions import PrepareFrame, SessionItem
from sidecar.intake import Prepared


class FrameSession:
    """Speak the agent's frame protocol with one client. `configuration` is the answer to clients that ask for it."""

    def __init__(
        self,
        check: PrepareFrame,
        configuration: Callable[[], bytes],
        counts: InputCounts,
        throttle: LogThrottle,
        peer: PeerCredentials,
        max_frame_bytes: int,
    ) -> None:
        self._check, self._configuration, self._counts = check, configuration, counts
        self._throttle, self._peer = throttle, peer
        self._decoder = FrameDecoder(max_frame_bytes)
        self._asked = False  # the client wants the configuration

    @property
    def unfinished_bytes(self) -> int:
        return self._decoder.unfinished_bytes

    @property
    def lost(self) -> str | None:
        return self._decoder.lost

    def feed(self, data: bytes) -> list[SessionItem]:
        return list(self._decoder.feed(data))

    def check(self, item: SessionItem) -> Prepared | None:
        match item:
            case GetConfiguration():
                self._asked = True
            case BadFrame(data_id, reason):
                self._refuse(data_id, reason)
            case Frame(data_id, sent_s, data):
                return self._prepare_frame(data_id, sent_s, data)
        return None

    def refuse(self, item: SessionItem, reason: str) -> None:
        self._refuse(item.data_id if isinstance(item, Frame) else 0, reason)

    def committed(self, lines: int) -> None:
        """Do nothing: these clients are not told."""

    def answer(self) -> bytes:
        asked, self._asked = self._asked, False
        return self._configuration() if asked else b""

    def give_up_unfinished(self, reason: str) -> SessionItem | None:
        return self._decoder.discard(reason)

    def end(self) -> list[SessionItem]:
        return [BadFrame(0, "the connection ended in the middle of a frame")] if self._decoder.end() else []

    def _prepare_frame(self, data_id: int, sent_s: int, data: bytes) -> Prepared | None:
        try:
            checked = self._check(data_id, data, sent_s)
        except Rejected as refused:
            self._refuse(data_id, refused.why.message)
            return None
        for reason, events in checked.dead.items():
            self._throttle.say("events of an agent client became dead letters", data_id=data_id, reason=reason,
                                 events=events, pid=self._peer.pid, uid=self._peer.uid)  # fmt: skip
        return checked.prepared

    def _refuse(self, data_id: int, reason: str) -> None:
        self._counts.rejected += 1
        self._throttle.say("frame refused", data_id=data_id, reason=reason, pid=self._peer.pid,
                             uid=self._peer.uid)  # fmt: skip
