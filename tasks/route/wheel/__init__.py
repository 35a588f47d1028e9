"""The wheel program: one TensorZero with one config for good, behind a port that outlives its crashes.

    client -> 127.0.0.1:<port>  (stays) -> 127.0.0.1:<random>   TensorZero's own server, in this process

TensorZero reads its config once, when it starts, and its server listens on a port that nobody can choose:
after a crash it is another one. So this program listens on a port of its own, and forwards to it.

    python -m tasks.route.wheel --config FILE --environment FILE --port PORT [--finish-s SECONDS]
    GET  /health        200 while it serves
    GET  /status        pid, version, config_hash, port (TensorZero's own), loaded_at, in_flight
    any  /openai/v1/*   forwarded; bodies stream both ways
    SIGTERM, SIGINT     accept nothing new, finish what runs (25 s at most), end

The environment file holds the providers' keys. They go into this process alone, after it has started:
neither its command line nor the environment that the kernel shows of it has them.

    environment.py   the file → variables of this process
    native.py        the seam to the wheel
    loaded.py        a config that TensorZero took, and its server
    serve.py         the life of the process
"""
