"""What Weaviate sends to multi2vec-clip's container and to the hosted API, as bytes.

Recorded from Go's net/http and encoding/json with the structs and headers of Weaviate's clients; the first text has
characters that encoding/json escapes, and some that it does not.

Source: Weaviate, modules/multi2vec-clip/clients/vectorizer.go and usecases/modulecomponents/clients/jinaai/jinaai.go.
"""

TEXTS = ['a red circle & <a "blue" square>  ü 🚲', "a star"]
IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAGCAIAAABxZ0isAAAAgUlEQVR42g3NERrDYAwG4E8ng2o1WglUBtPotBzMGabVUA6w"
    "M0TnOcKvu0aeH1Z95QUAAgQwwIEEBjAvBYP4JrwYr86UvA3eJz8BBekiSqa7q6QeQ23qGwhQrBK7xcvDMs4RnxlfoEBFUmJl"
    "Xp6Vo8asa2lQb9KH9emd2b/R99mPPxtNO9WrW9uXAAAAAElFTkSuQmCC"
)

# An object with two texts and an image.
CLIP_OBJECT = (
    "POST /vectorize HTTP/1.1\r\n"
    "Host: 127.0.0.1:8080\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Content-Length: 343\r\n"
    "Content-Type: application/json\r\n"
    "Accept-Encoding: gzip\r\n"
    "\r\n"
    '{"texts":["a red circle \\u0026 \\u003ca \\"blue\\" square\\u003e  ü 🚲","a star"],"images":["' + IMAGE + '"]}'
).encode()

# A search by text: what is empty is left out.
CLIP_QUERY = (
    "POST /vectorize HTTP/1.1\r\n"
    "Host: 127.0.0.1:8080\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Content-Length: 72\r\n"
    "Content-Type: application/json\r\n"
    "Accept-Encoding: gzip\r\n"
    "\r\n"
    '{"texts":["a red circle \\u0026 \\u003ca \\"blue\\" square\\u003e  ü 🚲"]}'
).encode()

# As earlier versions send it: always both fields, and no Content-Type.
CLIP_OLDER_IMAGE = (
    "POST /vectorize HTTP/1.1\r\n"
    "Host: 127.0.0.1:8080\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Content-Length: 274\r\n"
    "Accept-Encoding: gzip\r\n"
    "\r\n"
    '{"texts":[],"images":["' + IMAGE + '"]}'
).encode()

# The probe that Weaviate waits for when it starts; 500 ms are its limit.
CLIP_READY = (
    b"GET /.well-known/ready HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8080\r\n"
    b"User-Agent: Go-http-client/1.1\r\n"
    b"Accept-Encoding: gzip\r\n"
    b"\r\n"
)

# Asked for by Weaviate's own `/v1/meta`.
CLIP_META = (
    b"GET /meta HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n"
)

# An object: its texts come before its images.
JINA_OBJECT = (
    "POST /v1/embeddings HTTP/1.1\r\n"
    "Host: 127.0.0.1:8080\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Content-Length: 442\r\n"
    "Authorization: Bearer served-key\r\n"
    "Content-Type: application/json\r\n"
    "X-Header-Vectordb-Source: Weaviate\r\n"
    "Accept-Encoding: gzip\r\n"
    "\r\n"
    '{"input":[{"text":"a red circle \\u0026 \\u003ca \\"blue\\" square\\u003e  ü 🚲"},'
    '{"text":"a star"},{"image":"' + IMAGE + '"}],"model":"jina-clip-v2",'
    '"embedding_type":"float","normalized":true,"dimensions":64}'
).encode()

# A search by text.
JINA_QUERY = (
    "POST /v1/embeddings HTTP/1.1\r\n"
    "Host: 127.0.0.1:8080\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Content-Length: 163\r\n"
    "Authorization: Bearer served-key\r\n"
    "Content-Type: application/json\r\n"
    "X-Header-Vectordb-Source: Weaviate\r\n"
    "Accept-Encoding: gzip\r\n"
    "\r\n"
    '{"input":["a red circle \\u0026 \\u003ca \\"blue\\" square\\u003e  ü 🚲"],"model":"jina-clip-v2",'
    '"embedding_type":"float","normalized":true,"task":"retrieval.query"}'
).encode()

# As earlier versions send it, to a collection that states no dimensions.
JINA_OLDER_IMAGE = (
    "POST /v1/embeddings HTTP/1.1\r\n"
    "Host: 127.0.0.1:8080\r\n"
    "User-Agent: Go-http-client/1.1\r\n"
    "Content-Length: 338\r\n"
    "Authorization: Bearer served-key\r\n"
    "Content-Type: application/json\r\n"
    "Accept-Encoding: gzip\r\n"
    "\r\n"
    '{"input":[{"image":"' + IMAGE + '"}],"model":"jina-clip-v2","embedding_type":"float","normalized":true}'
).encode()
