"""How simulated instruments are reached from other processes: TCP sockets and pseudo-terminals."""

from operando.simulators.wire.pty import PtyServer
from operando.simulators.wire.server import WireServer, server_for
from operando.simulators.wire.tcp import TcpServer

__all__ = ["PtyServer", "TcpServer", "WireServer", "server_for"]
