"""A model server in one process: BERT embeddings on the CPU behind an OpenAI-compatible API.

    POST /v1/embeddings   input: a text or a list of texts; "truncate": true cuts long ones
    GET  /v1/models       the one model that is served
    GET  /health          200 once the weights are loaded and a self-test embedded a text

    options.py   what it is told            wire.py       JSON in, JSON out, refusals       (pure)
    tokens.py    counts and cuts texts      batches.py    texts of many requests -> calls
    engine.py    the weights                admission.py  how much may wait at once
    app.py       the routes                 exchange.py   one HTTP exchange
    __main__.py  the process

`python -m tasks.serve.embedded --help` lists what it takes.
"""
