"""What the push protocol takes for granted of uvicorn, whose internals it stands on."""

import inspect
from types import SimpleNamespace

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sidecar.inputs.http.push import Push, Shared

_SHARED_ATTRIBUTES = ("message_event", "response_complete", "disconnected", "keep_alive")


def test_a_push_has_what_uvicorn_touches_of_a_cycle() -> None:
    push = Push(SimpleNamespace(sender=None), Shared(*[None] * 5, max_body_bytes=1, max_connections=1), keep_alive=True)  # type: ignore[arg-type]
    for name in _SHARED_ATTRIBUTES:
        assert hasattr(push, name), name
    source = inspect.getsource(HttpToolsProtocol)
    touched = {part.split("(")[0].split()[0].strip(".,:)=") for part in source.split("self.cycle.")[1:]}
    known = {"disconnected", "message_event.set", "response_complete", "keep_alive", "more_body", "body", "run_asgi"}
    assert touched <= known, "uvicorn asks something new of a cycle"


def test_the_cycle_of_uvicorn_has_the_same_attributes() -> None:
    source = inspect.getsource(RequestResponseCycle.__init__)
    for name in _SHARED_ATTRIBUTES:
        assert f"self.{name} = " in source, name


def test_the_protocol_has_what_is_called_and_overridden() -> None:
    for name in (
        "connection_made", "connection_lost", "data_received", "on_message_begin", "on_header", "on_headers_complete",
        "on_body", "on_message_complete", "on_response_complete", "pause_writing",
        "resume_writing", "_start_asgi_task",
    ):  # fmt: skip
        assert callable(getattr(HttpToolsProtocol, name)), name
    source = inspect.getsource(HttpToolsProtocol.__init__)
    for name in (
        "parser", "cycle", "pipeline", "flow", "transport", "headers",
        "connections", "expect_100_continue", "server_state",
    ):  # fmt: skip
        assert f"self.{name}" in source, name


def test_pipelined_cycles_wait_in_pairs_and_start_through_one_method() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert "self.pipeline.appendleft((self.cycle, app))" in source
    assert "cycle, app = self.pipeline.pop()" in source
    assert source.count("cycle.run_asgi(") == inspect.getsource(HttpToolsProtocol._start_asgi_task).count(
        "cycle.run_asgi("
    )
