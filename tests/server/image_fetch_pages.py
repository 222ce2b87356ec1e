"""Answers that a web server should not give: without end, too slow, or in crumbs; each is written to a stream."""

import asyncio

from tests.server.image_fetch_site import redirect


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_chunks(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        await writer.drain()


async def endless_crumbs(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n" * 4096)
        await writer.drain()


async def endless_header(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_headers(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"a: b\r\n" * 4096)
        await writer.drain()


async def endless_trailers(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
    while True:
        writer.write(b"a: b\r\n" * 4096)
        await writer.drain()


async def endless_chunk_extension(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def endless_hints(writer):
    while True:
        writer.write(b"HTTP/1.1 103\r\n\r\n" * 4096)
        await writer.drain()


async def endless_framing(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400;" + b"x" * 0x4000 + b"\r\n" + b"x" * 0x400 + b"\r\n")
        await writer.drain()


async def slow_hints(writer):
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def slow_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def slow_header(writer):
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" * 100:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def silence(_):
    await asyncio.sleep(60)


async def slow_redirects(writer):
    await asyncio.sleep(0.4)
    writer.write(redirect("/p"))
