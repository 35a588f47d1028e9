"""Models that Ollama pulls: a pinned tag -> a tag that it serves, every blob checked where it can be.

names.py      what a tag is called, and where Ollama keeps it
registry.py   the library's manifest of a tag: its digest and its layers
stream.py     what Ollama says while it pulls; faults.py: what its errors mean
exchange.py   one request that can be broken off at any time; api.py: Ollama's own requests
blobs.py      what lies in Ollama's folder, and whether it is what it should be
pull.py       a tag of the library -> PulledTag; create.py: files of ours -> PulledTag
"""
