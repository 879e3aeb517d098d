"""Sockets: lines with durable acknowledgements, the frames of the GSE agent's clients, and datagrams.

`line_framer.py`, `agent_frames.py` and `acks.py` know the wire and nothing else; the sessions join them to the intake;
`connection.py` owns a client's transport and memory, `in_flight.py` what is on its way to the disk,
`response_writer.py` what is said back; `backpressure.py` owns what all share, `stream_input.py` and `datagram_input.py`
one listening socket each.
"""

from sidecar.inputs.socket.agent_frames import configuration
from sidecar.inputs.socket.sockets import Sockets

__all__ = ["Sockets", "configuration"]
