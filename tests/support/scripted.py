"""A server that says what its script has, whatever HTTP has to say about it."""

import asyncio
import ssl

from sidecar.forward.client import Client
from sidecar.forward.outcome import Failure, Reply


async def cut(server: asyncio.Server, writers: list[asyncio.StreamWriter]) -> None:
    """End `server` and its connections, of which nothing must be left for the garbage collector."""
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)


def http(body: bytes, *more: bytes, status: bytes = b"200 OK") -> bytes:
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *more]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


ACK = b'{"result":"true"}'


class Scripted:
    """A server that says what its script has for each request, and remembers the heads and how many connections."""

    def __init__(self, *script: bytes, before_the_body: bool = False) -> None:
        self.script, self.before_the_body = list(script), before_the_body
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                self.heads.append(head)
                answer = self.script.pop(0) if self.script else http(b"")
                if self.before_the_body:
                    writer.write(answer)
                    await asyncio.sleep(0.1)
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                if not self.before_the_body:
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def ask(
        self, *bodies: bytes, pause_s: float = 0.0, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
    ) -> list[Reply | Failure]:
        """The answers to `bodies`. `tls`: for the server and for the client."""
        theirs, ours = tls or (None, ssl.create_default_context())
        scheme = "https" if tls else "http"

        async def run() -> list[Reply | Failure]:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=theirs)
            port = server.sockets[0].getsockname()[1]
            client = Client(timeout_s=2.0, tls=lambda: ours, connections=4)
            answers = []
            for body in bodies:
                answers.append(await client.post(f"{scheme}://127.0.0.1:{port}", body))
                await asyncio.sleep(pause_s)
            await client.close()
            await cut(server, self.writers)
            return answers

        return asyncio.run(run())


def chunked(*chunks: bytes, trailers: bytes = b"", more: bytes = b"") -> bytes:
    body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n%b0\r\n%b\r\n" % (more, body, trailers)
