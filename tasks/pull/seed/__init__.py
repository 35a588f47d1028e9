"""This host's verified weights, for its neighbours: read-only, over HTTP, as a Hub answers.

    /{repo}/resolve/{revision}/{path}              a file: ETag, Range, If-Range; 200, never a redirect
    /api/models/{repo}[/revision/{revision}]       what is here of a repository (?blobs=true: digests too)
    /api/models/{repo}/tree/{revision}[/{folder}]  the same as a tree (?recursive=true)
    /v2/{namespace}/{model}/manifests/{tag}        a model of Ollama's folder, where one is given
    /v2/{namespace}/{model}/blobs/sha256:{hex}     one of its blobs, hashed here before it is first sent

    wire.py      what is asked for, and how much    listing.py  what is here, in the Hub's words       (pure)
    verified.py  the store, where receipts hold     library.py  Ollama's folder, where hashes agree
    looks.py     files known by how they look       refusal.py  an answer that is a no
    stream.py    a file on its way to one client    app.py      one exchange
    process.py   the server

GET and HEAD only, and every request needs `Authorization: Bearer <token>`. What is damaged, changed or was
never verified is not there: a neighbour that lists a repository sees what it can have from here, which may
be less than the Hub has of it.

The real Ollama cannot pull from here: it refuses a registry that answers a blob with 200, and wants a
redirect to another host name. Clients that check digests by themselves, ours among them, can.
"""

from tasks.pull.seed.app import build
from tasks.pull.seed.process import serve

__all__ = ["build", "serve"]
