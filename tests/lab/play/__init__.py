"""Servers that speak the real protocols of the runtimes, where the real images cannot be had.

Each is one program on the standard library alone (`python3 llama_cpp.py --port 8080 ...`), takes the flags or
variables of the real one and answers by rule, so that real questions get right answers. What is played is in
`brain` and `picture`; what is broken, and how, in `common`. None is a model: they show that a caller does the
right thing with a server, never that a server is fast or good.
"""
