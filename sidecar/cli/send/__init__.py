"""`sidecar send`: reports from the command line, and returns when they are on disk.

`command.py` has the options, `job.py` does what they say. `beat.py` knows the spelling of `bkmonitorbeat -report`,
`destination.py` finds the running sidecar; the ways to it are `line_socket.py`, which is made of `client`, and
`http_link.py`; that to a proxy is `direct.py`. What is sent, and what became of it, `outbox.py` decides.
"""

from sidecar.cli.send.command import send

__all__ = ["send"]
