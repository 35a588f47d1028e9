"""HTTP requests that are handed on to a server on this host: what the gateway and the front share.

    client -> Server (uvicorn) -> forward() -> Upstream.wire() -> 127.0.0.1:<port>

    headers.py    what is handed on of a request's and an answer's head; pure
    body.py       a request's body as it arrives, and the news that its client has gone
    wire.py       one connection to an upstream
    upstream.py   the server behind: its connections, and the count of its running requests
    forward.py    one request -> one answer, both as streams
    server.py     a listening port, and uvicorn without its own signal handling

Nothing is buffered beyond what flow control needs, and no time-out runs but that for connecting.
"""
