"""Where a reply ends that came over a socket, whatever came in which piece."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from drivers.line_server import Server, serving, with_wire
from operando.drivers.transports.visa import CHUNK, VisaSession
from operando.instruments.clock import run
from operando.instruments.wires import Terminated, Wire

pytestmark = pytest.mark.sockets

LINE = Terminated(b"\n")


@pytest.mark.parametrize("length", range(CHUNK - 5, CHUNK + 2))
def test_a_terminator_is_found_wherever_one_read_ends(length: int) -> None:
    def answer(server: Server, line: bytes, send: Callable[[bytes], None]) -> None:
        send(b"\n" * length + b"#\n\n#\r\n")

    async def use(wire: Wire) -> None:
        found = await wire.exchange(b"x\n", Terminated(b"\n\n#\r\n"), 5.0)
        assert found == b"\n" * length + b"#"

    with serving(answer) as server:
        run(with_wire(server.visa, use))


@pytest.mark.parametrize("kind", ["visa", "serial"])
def test_what_comes_with_a_reply_is_not_taken_for_the_next(kind: str) -> None:
    def say_more(server: Server, line: bytes, send: Callable[[bytes], None]) -> None:
        send(line + b"more\n")

    async def use(wire: Wire) -> None:
        assert await wire.exchange(b"first\n", LINE, 2.0) == b"first"
        assert await wire.exchange(b"second\n", LINE, 2.0) == b"second"

    with serving(say_more) as server:
        run(with_wire(getattr(server, kind), use))


def test_a_reply_of_many_lines_is_not_read_line_by_line() -> None:
    rows, end = b"<row/>\r\n" * 100_000, b"\n\n#\r\n"
    with serving(lambda server, line, send: send(rows + end)) as server:
        session = VisaSession(server.visa)
        try:
            before = time.thread_time()
            assert session.exchange(b"x\n", Terminated(end), 30.0) == rows
            # Processor time of this thread alone: some ms, line by line it was two seconds.
            assert time.thread_time() - before < 0.2
        finally:
            session.close()
