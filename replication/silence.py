"""Noticing that the other side of a TCP connection is gone without a word (cut network, power cut).

TCP_USER_TIMEOUT cannot be used: it also cuts a receiver that is alive and slow, with its window closed while
its pool is busy. So keepalive answers for whoever has nothing unacknowledged under way (a receiver never
has), and the age of the last ACK for a sender that is blocked: a living kernel acknowledges window probes
however slow its program is.
"""

import socket
import struct

from replication.errors import PeerGone

SILENT_SECONDS = 60.0
_IDLE, _INTERVAL, _COUNT = 20, 10, 4
_LAST_ACK_RECEIVED = 56
"""Offset of tcpi_last_ack_recv (milliseconds) in struct tcp_info, linux/tcp.h."""


def keepalive(sock: socket.socket) -> None:
    """Let an idle connection fail with ETIMEDOUT after a minute of silence. Leaves alone what is not TCP."""
    if not _is_tcp(sock):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)


def check_answering(sock: socket.socket) -> None:
    """For a blocked sender. Raises PeerGone after a minute without an ACK; never for what is not TCP."""
    silent = seconds_since_ack(sock) if _is_tcp(sock) else 0.0
    if silent > SILENT_SECONDS:
        raise PeerGone(f"the other side has not answered for {silent:.0f} s")


def seconds_since_ack(sock: socket.socket) -> float:
    """How long ago the other kernel last acknowledged anything."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    milliseconds: int = struct.unpack_from("=I", info, _LAST_ACK_RECEIVED)[0]
    return milliseconds / 1000


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6)
