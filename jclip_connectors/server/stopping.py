"""uvicorn's server, which also ends the connections that come while it stops."""

import asyncio
import socket
import sys
from contextlib import suppress

import uvicorn

_CLOSE_EVERY_S = 0.1
_NOT_STARTED = 3  # as `uvicorn.run` exits


class StoppingServer(uvicorn.Server):
    """A server that stops when it has answered the accepted requests, whatever connects meanwhile.

    uvicorn closes the connections that it knows of, once, and then waits for all. A connection that was accepted just
    before and became known only then is not closed: its client, such as a browser that connects in advance and asks
    nothing, would hold the server for as long as it likes.
    """

    def serve_until_told(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer requests until the process is told to stop; the program ends if the server cannot start."""
        with suppress(KeyboardInterrupt):  # the accepted requests are answered
            self.run(sockets=sockets)
        if not self.started:
            sys.exit(_NOT_STARTED)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, answer what was accepted, and end the application."""
        closing = asyncio.create_task(self._close_late_connections())
        try:
            await super().shutdown(sockets)
        finally:
            closing.cancel()

    async def _close_late_connections(self) -> None:
        while True:
            await asyncio.sleep(_CLOSE_EVERY_S)
            for connection in list(self.server_state.connections):
                connection.shutdown()  # one with a request is closed after its answer
