"""What a model's weights are, exactly, before byte one: files, sizes and digests.

listing.py   a repository as the hub lists it, through the hub's own client
needed.py    pure: which of its files a runtime loads
lock.py      pins that were resolved before: the shipped lock, and this host's
resolve.py   a planned model -> the same with its pins
verdict.py   the whole bundle against the disks that really hold it
"""
