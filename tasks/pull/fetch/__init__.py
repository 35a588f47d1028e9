"""The download engine: files over plain HTTP, in parallel ranges, resumable and verified.

blocks.py    pure: which blocks of a file are there, and which range to ask for next
partial.py   the part file on disk and its journal, which survive kill -9 and a power loss
line.py      what all downloads share: connections per host, bandwidth, quiet hours
web.py       one HTTP answer: redirects, tokens, proxies, certificates, what an error means
item.py      one file while it is fetched: its part, its address, its digest
worker.py    one connection: takes ranges and writes them down
engine.py    a set of files: workers, stalls, progress, verification
"""
