"""Verified weights on a directory or a USB disk, to provision a host that has no network.

    <target>/index.json                               what is here: the pins; written last, in one step
    <target>/blobs/sha256-<64 hex>, git-<40 hex>      the bytes of files and of Ollama's layers
    <target>/manifests/<host>/<ns>/<model>/<tag>      Ollama's manifests, byte for byte
    <target>/.pmoves-export.lock                      held by the one export that writes there
    <target>/.pmoves-export/                          what is being written; gone when the export ends

    index.py   the index: read, checked, merged     disk.py    what the disk there can hold
    plan.py    what is exported, checked before     copying.py one file: hashed, synced, moved into place
    write.py   the export                           ollama.py  a tag out of an export -> Ollama's folder

The disk may be FAT or exFAT: no links and no modes are asked of it, and a file over 4 GiB is refused for FAT
before byte one. What is there with its digest is kept, so an export that broke off goes on.

The folder has the shape of Ollama's own (`OLLAMA_MODELS`). Let Ollama read it only where it cannot write, or
with OLLAMA_NOPRUNE=1: when it starts, it deletes every blob that no manifest names, so the files of all other
runtimes. `import_ollama` needs no such care.
"""

from tasks.pull.export.index import Index, Pinned, read_index
from tasks.pull.export.ollama import Imported, import_ollama
from tasks.pull.export.plan import Exported
from tasks.pull.export.write import ExportReport, export

__all__ = [
    "ExportReport",
    "Exported",
    "Imported",
    "Index",
    "Pinned",
    "export",
    "import_ollama",
    "read_index",
]
