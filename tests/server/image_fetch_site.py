"""A web server on loopback that answers byte for byte what a test tells it to, and a certificate made for it."""

import asyncio
import contextlib
import ssl
import subprocess

PICTURE = b"the bytes of a picture, whatever they are"


def answer(body=PICTURE, *, status="200 OK", **headers):
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if not {"Content_Length", "Transfer_Encoding"} & set(headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(location, status="302 Found"):
    return answer(b"", status=status, Location=location)


class Site:
    """Answers a path with its bytes in `pages`, or lets a coroutine there write what it likes."""

    def __init__(self, pages=None, *, tls=None):
        self.pages = {"/": answer(), **(pages or {})}
        self.greeting = None  # a coroutine that writes before anything is asked
        self.requests = []
        self.now = self.most_at_once = 0
        self._tls = tls
        self._tasks = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.now += 1
        self.most_at_once = max(self.most_at_once, self.now)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if self.greeting is not None:
                    await self.greeting(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head.decode("latin-1"))
                page = self.pages[head.split()[1].decode().partition("?")[0]]
                if isinstance(page, bytes):
                    writer.write(page)
                    await writer.drain()
                else:
                    await _unless_gone(page(writer), reader)
        finally:
            self.now -= 1
            writer.close()


async def _unless_gone(writing, reader):
    """Write until the client closes the connection."""
    tasks = [asyncio.create_task(writing), asyncio.create_task(reader.read())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def certificate(folder, *names):
    """A server's TLS context for these names, and the file that a client can trust it by."""
    key, chain = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(chain), "-days", "2", "-subj", "/CN=a test of image fetching"]
    command += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the arguments are ours
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context, chain
