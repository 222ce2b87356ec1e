"""Requests that mean harm: texts, addresses, bodies, paths and bytes that are no HTTP."""

import base64

from tests.server.harness import DATA_URI, PNG, PNG_BASE64

HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
GOOD = b'{"model": "nano", "input": "a star"}'


def as_base64(data):
    return base64.b64encode(data).decode()


URLS = [
    "http://127.0.0.1/a.png", "http://127.1/a.png", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
    "http://[::1]/", "http://[::ffff:169.254.169.254]/latest/meta-data", "http://[::ffff:a9fe:a9fe]/",
    "http://169.254.169.254/latest", "http://0.0.0.0:8080/metrics", "http://localhost/", "http://user:key@10.0.0.1/",
    "https://127.0.0.1@example.com/", "http://example.com#@127.0.0.1/", "http://①②⑦.⓪.⓪.①/",
    "http://127.0.0.1.nip.io/", "HtTp://127.0.0.1/", "gopher://127.0.0.1:6379/_INFO", "file:///etc/passwd",
    "FILE:///etc/passwd", "file:/etc/passwd", "ftp://127.0.0.1/", "jar:http://127.0.0.1!/a.png",
    "jar:file:///a.jar!/a.png", "dict://127.0.0.1:11211/stat", "ldap://127.0.0.1/", "s3://bucket/a.png",
    "php://filter/resource=/etc/passwd", "view-source:http://127.0.0.1", "//127.0.0.1/a.png",
    "\\\\127.0.0.1\\share\\a.png", "/etc/passwd", "../../etc/passwd", "~/.ssh/id_rsa", "/dev/zero",
    " http://127.0.0.1/", "\thttp://127.0.0.1/", "http:/127.0.0.1/", "http:127.0.0.1", "http://127.0.0.1/\r\nX: y",
    "javascript:alert(1)", "blob:http://127.0.0.1/1", "data:,http://127.0.0.1/",
]  # fmt: skip

HALF = len(PNG_BASE64) // 8 * 4
IMAGE_TEXTS = {
    **{f"base64 that ends after {length} of its characters": PNG_BASE64[:length] for length in (1, 2, 3, 4, 5, 11, 12)},
    "base64 that ends in the middle": PNG_BASE64[:HALF],
    "base64 that ends within a group": PNG_BASE64[: HALF + 1],
    "base64 that ends before its last group": PNG_BASE64.rstrip("=")[:-9],
    "base64 with padding in the middle": PNG_BASE64[:HALF] + "====" + PNG_BASE64[HALF:],
    "base64 with too much padding": PNG_BASE64.rstrip("=") + "=====",
    "only padding": "====",
    "base64 for URLs": as_base64(b"\xfb\xff\xfe" * 50).replace("+", "-").replace("/", "_"),
    "base64 with a letter of another alphabet": PNG_BASE64[:40] + "\u0410" + PNG_BASE64[41:],
    "base64 in wide letters": "".join(chr(ord(letter) + 0xFEE0) for letter in PNG_BASE64),
    "base64 with a zero-width space": PNG_BASE64[:40] + "\u200b" + PNG_BASE64[40:],
    "base64 with NUL": PNG_BASE64[:40] + "\0" + PNG_BASE64[40:],
    "base64 in percent-encoding": PNG_BASE64.replace("/", "%2F").replace("+", "%2B").replace("=", "%3D"),
    "base64 of base64": as_base64(PNG_BASE64.encode()),
    "base64 in quotation marks": f'"{PNG_BASE64}"',
    "two images": f"{DATA_URI} {DATA_URI}",
    "base64 of hexadecimal": as_base64(PNG.hex().encode()),
    "only white space": " \n\t\u2003" * 100,
    "a data URI in percent-encoding": "data:image/png,%89PNG%0D%0A%1A%0A",
    "a data URI of nothing": "data:,",
    "a data URI of an empty image": "data:image/png;base64,",
    "a data URI without its comma": f"data:image/png;base64{PNG_BASE64}",
    "a data URI with base64 in the wrong place": f"data:base64;image/png,{PNG_BASE64}",
    "a data URI with a parameter after base64": f"data:image/png;base64;a=b,{PNG_BASE64}",
    "a data URI with a comma in a parameter": f'data:image/png;a=",";base64,{PNG_BASE64}',
    "a data URI in a data URI": f"data:image/png;base64,{DATA_URI}",
    "a data URI of an SVG": f"data:image/svg+xml;base64,{as_base64(b'<svg/>')}",
    "a data URI of HTML": f"data:text/html;base64,{as_base64(b'<script>')}",
    "a data URI with a media type of 1 MB": f"data:image/{'a' * 10**6};base64,AAAA",
    "9 MB of base64": "A" * 12_000_000,
}

TEXTS = {
    "NUL": "a\0star",
    "control characters": "".join(map(chr, range(32))),
    "text that runs the other way": "\u202estar a\u202c\u2066\u2069",
    "no characters": "\ufffe\uffff\U0010ffff",
    "private characters": "\ue000\U000f0000",
    "letters under many marks": "e" + "\u0301\u0316" * 5000,
    "a family of a thousand": "\U0001f468\u200d" * 1000,
    "one letter that becomes eighteen": "\ufdfa" * 400,
    "a template": "{{7*7}} ${7*7} %s%s%s%n {0.__class__}",
    "a command": "'; DROP TABLE records; -- $(id) `id`",
    "the tokenizer's own words": "<s></s><pad><unk><mask>[CLS][SEP]",
    "a log's next line": "a star\n2026-01-01 ERROR root logged in\r\n\x1b[2J",
    "no scheme that is known": "http://127.0.0.1/",
}


def request(text):
    """Write a request with JSON text in the place of its input."""
    return b'{"model": "nano", "input": %s}' % text


def field(name, text):
    return b'{"model": "nano", "input": "a star", "%s": %s}' % (name, text)


BODIES = {
    "a megabyte of marks": request(b'"' + "\u0301".encode() * 2**19 + b'"'),
    "a text of 10 MB": request(b'{"text": "' + b"a" * 10**7 + b'"}'),
    "10 000 empty objects": request(b"[" + b",".join([b"{}"] * 10_000) + b"]"),
    "a list of lists": request(b'[["a", "b"], ["c"]]'),
    "a hundred thousand lists in each other": request(b"[" * 100_000 + b"]" * 100_000),
    "a hundred thousand objects in each other": request(b'{"text":' * 100_000 + b'"a"' + b"}" * 100_000),
    "a key of 1 MB": b'{"model": "nano", "%s": "a star"}' % (b"a" * 10**6),
    "an item whose key has 1 MB": request(b'[{"%s": "a star"}]' % (b"a" * 10**6)),
    "a model of 1 MB": b'{"model": "%s", "input": "a"}' % (b"a" * 10**6),
    "JSON in UTF-16": '{"model": "nano", "input": "a star"}'.encode("utf-16"),
    "JSON in UTF-32 without a mark": '{"model": "nano", "input": "a star"}'.encode("utf-32-le"),
    "JSON in Latin-1": request('"ä star"'.encode("latin-1")),
    "half of a surrogate pair": request(rb'"\ud800"'),
    "the other half": request(rb'["\udc00"]'),
    "a model of half a pair": rb'{"model": "\ud800", "input": "a"}',
    "a task of half a pair": field(b"task", rb'"\ud800"'),
    "a field of half a pair": rb'{"model": "nano", "\ud800": 5}',
    "a raw NUL": request(b'"\0"'),
    "a surrogate in UTF-8": request(b'"\xed\xa0\x80"'),
    "UTF-8 that is too long": request(b'"\xc0\xaf"'),
    "UTF-8 that ends early": request(b'"\xe2\x82"'),
    "Latin-1": request("'ä'".encode("latin-1")),
    "an escape of nothing": request(rb'"\x41"'),
    "single quotation marks": b"{'model': 'nano', 'input': 'a'}",
    "a comma too many": b'{"model": "nano", "input": "a",}',
    "a comment": b'{"model": "nano", "input": "a"} // a',
    "two bodies": GOOD + GOOD,
    "a number with a zero before it": request(b"007"),
    "infinity": request(b"Infinity"),
    "minus infinity in a field": field(b"dimensions", b"-Infinity"),
    "a number that becomes infinity": request(b"1e400"),
    "an item that becomes infinity": request(b"[1e400]"),
    "a number of a million digits": request(b"9" * 10**6),
    "an item of a million digits": request(b"[" + b"9" * 10**6 + b"]"),
    "a fraction of a million digits": field(b"dimensions", b"1." + b"1" * 10**6),
    "infinite dimensions": field(b"dimensions", b"1e400"),
    "dimensions that are no number": field(b"dimensions", b"NaN"),
    "almost an integer": field(b"dimensions", b"64.5"),
    "wide digits": field(b"dimensions", '"１２８"'.encode()),
    "Arabic digits": field(b"dimensions", '"٦٤"'.encode()),
    "raised digits": field(b"dimensions", '"⁶⁴"'.encode()),
    "digits after a space": field(b"dimensions", b'" 64"'),
    "digits before a new line": field(b"dimensions", rb'"64\n"'),
    "digits with a line between": field(b"dimensions", b'"6_4"'),
    "digits with a sign": field(b"dimensions", b'"+64"'),
    "digits with a minus": field(b"dimensions", b'"-64"'),
    "hexadecimal digits": field(b"dimensions", b'"0x40"'),
    "digits with a point": field(b"dimensions", b'"64.0"'),
    "no digits": field(b"dimensions", b'""'),
    "dimensions in an object": field(b"dimensions", b'{"$gt": 0}'),
    "a model that is a path": b'{"model": "../../etc/passwd", "input": "a"}',
    "a model that is an address": b'{"model": "http://127.0.0.1/nano", "input": "a"}',
    "a model with NUL": rb'{"model": "nano\u0000", "input": "a"}',
    "a model in other letters": '{"model": "nаno", "input": "a"}'.encode(),
    "a model in capitals": b'{"model": "NANO", "input": "a"}',
    "a model that is an object": b'{"model": {"$ne": null}, "input": "a"}',
    "an encoding that is an object": field(b"embedding_type", b'{"float": true}'),
    "an encoding in a list in a list": field(b"embedding_type", b'[["float"]]'),
    "an encoding and an unknown one": field(b"embedding_type", b'["float", "__class__"]'),
    "ten thousand encodings and an unknown one": field(b"embedding_type", b"[" + b'"float",' * 9999 + b'"a"]'),
    "the field that Python's objects have": field(b"truncate", b'{"__proto__": {"admin": true}}'),
    "two images in one item": request(b'[{"image": "AAAA", "url": "AAAA"}]'),
    "an item of nulls": request(b'[{"text": null, "image": null}]'),
    "an item of an unknown kind": request(b'[{"audio": "AAAA"}]'),
    "a text with a number": request(b'[{"text": 1e999}]'),
    "the later of two models": b'{"model": "nano", "model": "gpt-4", "input": "a"}',
    "the later of two inputs": b'{"input": "a", "model": "nano", "input": 5}',
}  # fmt: skip

PATHS = [
    "/v1/models/%00", "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/....//....//etc/passwd",
    "/v1/models/%2e%2e/%2e%2e", "/v1/models/%ff%fe", "/v1/models/%zz", "/v1/models/" + "a" * 8000,
    "/v1/models/nano%00", "/v1/models/nano/nano", "/v1/models/nano;a=b", "/v1/models/%5c%5c127.0.0.1%5ca",
    "/v1/models/{model_id}", "/v1/models/%F0%9F%92%A3", "/v1/models/%", "//v1/models", "/v1//models",
    "/v1/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/embeddings/../../x", "/V1/MODELS",
    "/v1/models%0d%0aX-Evil:%20a", "/docs", "/openapi.json", "/redoc", "/.git/config", "/.env", "/server-status",
    "/v1",
]  # fmt: skip


def chunked(*chunks):
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


LENGTH = b"Content-Length: %d\r\n" % len(GOOD)
PROTOCOL = {
    "a request line of 1 MB": b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header of 1 MB": HEAD + b"X: " + b"a" * 2**20 + b"\r\n" + LENGTH + b"\r\n" + GOOD,
    "a header whose name has 1 MB": HEAD + b"a" * 2**20 + b": x\r\n" + LENGTH + b"\r\n" + GOOD,
    "50 000 headers": HEAD + b"".join(b"X-%d: y\r\n" % each for each in range(50_000)) + LENGTH + b"\r\n" + GOOD,
    "50 000 headers of one name": HEAD + b"Accept: a\r\n" * 50_000 + LENGTH + b"\r\n" + GOOD,
    "HTTP/0.9": b"GET /\r\n\r\n",
    "the greeting of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": b"GET /live HTTP/9.9\r\nHost: x\r\n\r\n",
    "the greeting of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "the greeting of SMTP": b"EHLO example.com\r\nMAIL FROM:<a@b>\r\n",
    "the greeting of Redis": b"*1\r\n$4\r\nINFO\r\n",
    "noise": bytes(range(256)) * 20,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + GOOD,
    "two lengths in one": HEAD + b"Content-Length: 5, 6\r\n\r\n" + GOOD,
    "two lengths": HEAD + LENGTH + b"Content-Length: 5\r\n\r\n" + GOOD,
    "a length that overflows": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n" + GOOD,
    "a length of 2**63": HEAD + b"Content-Length: %d\r\n\r\n" % 2**63 + GOOD,
    "a hexadecimal length": HEAD + b"Content-Length: 0x24\r\n\r\n" + GOOD,
    "a length with a sign": HEAD + b"Content-Length: +36\r\n\r\n" + GOOD,
    "no length": HEAD + b"Content-Length: \r\n\r\n" + GOOD,
    "a chunk of no size": chunked(b"zz\r\n", GOOD, b"\r\n0\r\n\r\n"),
    "a chunk of a negative size": chunked(b"-1\r\n", GOOD, b"\r\n0\r\n\r\n"),
    "a chunk of 2**68": chunked(b"FFFFFFFFFFFFFFFFF\r\n", GOOD, b"\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": chunked(b"5\r\n", GOOD, b"\r\n0\r\n\r\n"),
    "a length and chunks": HEAD + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /live HTTP/1.1\r\n\r\n",
    "chunks and another encoding": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "almost chunks": HEAD + b"Transfer-Encoding: xchunked\r\n" + LENGTH + b"\r\n" + GOOD,
    "chunks after a space": HEAD + b"Transfer-Encoding : chunked\r\n" + LENGTH + b"\r\n" + GOOD,
    "a header in two lines": HEAD + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    "a header without a name": HEAD + b": x\r\n\r\n",
    "NUL in a header": HEAD + b"X: a\0b\r\n\r\n",
    "a lone carriage return": HEAD + b"X: a\rContent-Length: 5\r\n\r\nhello",
    "a path of raw bytes": b"GET /v1/models/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "another server's address": b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in small letters": HEAD.replace(b"POST", b"post") + LENGTH + b"\r\n" + GOOD,
    "a method that nobody knows": HEAD.replace(b"POST", b"EVIL") + LENGTH + b"\r\n" + GOOD,
    "an upgrade to HTTP/2": b"GET /v1/models/x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "an upgrade to web sockets": b"GET /v1/embeddings HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "a body that is shorter than it says": HEAD + b"Content-Length: 5000\r\n\r\n" + GOOD,
    "a head without an end": HEAD,
    "chunks without an end": chunked(b"%x\r\n" % len(GOOD), GOOD, b"\r\n"),
    "nothing": b"",
}  # fmt: skip
