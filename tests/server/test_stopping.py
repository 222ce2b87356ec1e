"""How a server stops: it waits for its answers, and for no client that asks nothing."""

import asyncio
import socket
import threading

import httpx
import uvicorn

from jclip_connectors.server.protocol import LimitedProtocol
from jclip_connectors.server.stopping import StoppingServer
from tests.server.harness import wait_until


def test_a_connection_that_becomes_known_while_the_server_stops_does_not_hold_it():
    go_on, stopping, known = threading.Event(), threading.Event(), threading.Event()

    class LateProtocol(LimitedProtocol):
        """Like a connection that is accepted as the server begins to stop."""

        def connection_made(self, transport):
            if not first:
                first.append(transport)
                super().connection_made(transport)
                return

            async def later():
                await asyncio.to_thread(stopping.wait, 30)
                super(LateProtocol, self).connection_made(transport)
                known.set()

            tasks.append(self.loop.create_task(later()))

    class Told(StoppingServer):
        async def shutdown(self, sockets=None):
            asyncio.get_running_loop().call_soon(stopping.set)  # when uvicorn has closed what it knows of
            await super().shutdown(sockets)

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for done in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{done}.complete"})
            return
        asked.set()
        await asyncio.to_thread(go_on.wait, 30)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    first, answers, asked = [], [], threading.Event()
    tasks: list[asyncio.Task[None]] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        server = Told(uvicorn.Config(app, loop="asyncio", http=LateProtocol, log_config=None, access_log=False))
        running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        wait_until(lambda: server.started)
        url = f"http://127.0.0.1:{address[1]}/"
        asking = threading.Thread(target=lambda: answers.append(httpx.get(url, trust_env=False, timeout=60).text))
        asking.start()
        assert asked.wait(30)
        with socket.create_connection(address) as silent:
            wait_until(lambda: tasks)
            server.should_exit = True
            assert known.wait(30)
            go_on.set()
            silent.settimeout(30)
            assert silent.recv(1) == b""
            running.join(30)
            assert not running.is_alive()
        asking.join(30)
    assert answers == ["ok"]
