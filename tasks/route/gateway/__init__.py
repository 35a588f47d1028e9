"""The gateway program: it owns the stable port and forwards to a TensorZero that can be swapped.

    client -> 127.0.0.1:<port> (stays) -> generation 1 (blue)   127.0.0.1:<random>, in this process
                                      `-> generation 2 (green)  takes over on SIGHUP, once it is up

TensorZero reads its config once, when it starts, and its own HTTP server listens on a port that nobody
can choose. So SIGHUP starts a second one beside the first, sends new requests to it, and closes the first
when its last request has ended: no request is lost, and a config that does not load changes nothing.

    python -m tasks.route.gateway --config <file> --port <port> [--finish-s <seconds>]
    GET  /health        200 while a generation serves
    GET  /status        version, config_hash, generation, in_flight, last_reload, ...
    any  /openai/v1/*   forwarded; bodies stream both ways
    SIGHUP              read the config again
    SIGTERM, SIGINT     accept nothing new, finish what runs (25 s at most), end
"""
