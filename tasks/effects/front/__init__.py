"""The front: one process that owns the ports of all model servers, so that what serves can be replaced.

    client -> 127.0.0.1:<port> (stays) -> 127.0.0.1:<backend port>   what serves now
                                      `-> 127.0.0.1:<backend port>   what served, until its last request ends

A published port cannot move from one container to another without a gap, so containers publish ports of
their own, and the front says which of them gets new requests.

    <folder>/
      table.json   which server is on which port, and where it serves now; written by the provisioner
      front.sock   GET /status; the reader's own folder, so no port and no password
      front.lock   held while the process runs
      table.lock   held while the table is changed

    python -m tasks.effects.front --folder <folder> [--finish-s <seconds>]
    SIGHUP            read the table: open new ports, close gone ones after their last request, and send
                      new requests to changed backends while those in flight end where they began
    SIGTERM, SIGINT   accept nothing new, finish what runs (25 s at most), end
"""
