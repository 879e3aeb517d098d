"""`sidecar send`: reports from the command line, and returns when they are on disk.

`command.py` has the options, `job.py` does what they say. `beat.py` knows the spelling of `bkmonitorbeat -report`,
`destination.py` finds the running sidecar; the ways to it are `line_socket.py` and `http_link.py`, the way past it
`direct.py`. What is sent, and what became of it, is decided by pure modules.
"""

from sidecar.cli.send.command import send

__all__ = ["send"]
