"""How the processes of a group meet, over plain sockets: with a time limit, and errors that say what is wrong."""

import contextlib
import dataclasses
import json
import socket
import time

from keras_condense.validation import listed

__all__ = ["Line", "Member", "gather", "join"]

_LONGEST_LINE = 1 << 16  # bytes


@dataclasses.dataclass(frozen=True)
class Member:
    """What a process says of itself."""

    process_id: int
    num_processes: int
    versions: dict[str, str]


class Line:
    """A connection to another process, which carries one JSON value a line."""

    def __init__(self, connection: socket.socket, process_id: int = 0):
        self.connection, self.process_id = connection, process_id
        self._received = b""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 6)):  # a host that is gone
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, **message: object) -> None:
        with contextlib.suppress(OSError):  # who reads no more, is found out by reading
            self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float) -> dict:
        """The next message.

        Raises:
            ConnectionError: the other process has ended, or is no process of a group.
            TimeoutError: none came in time.
        """
        self.connection.settimeout(max(timeout, 0.01))
        while not (messages := self._messages()):
            self._read()
        return messages[0]  # there is no second one before all have come

    def receive_all(self) -> list[dict]:
        """The messages of a connection that has something to be read; errors as above."""
        self.connection.settimeout(None)
        self._read()
        return self._messages()

    def _read(self) -> None:
        part = self.connection.recv(4096)
        if not part or len(self._received) > _LONGEST_LINE:
            raise ConnectionError("the connection was closed")
        self._received += part

    def _messages(self) -> list[dict]:
        *lines, self._received = self._received.split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            messages = [None]
        if not all(isinstance(message, dict) for message in messages):
            raise ConnectionError("it says something else than a process of a group")
        return messages

    def close(self) -> None:
        self.connection.close()


def gather(host: str, port: int, me: Member, deadline: float) -> list[Line]:
    """Wait, as the first process, for all others, and let them go on together."""
    came: dict[int, Line] = {}
    with _listening(host, port) as server:
        _check_own(host, port)
        while len(came) < me.num_processes - 1:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                line = Line(server.accept()[0])
            except TimeoutError:
                missing = listed([number for number in range(1, me.num_processes) if number not in came])
                _refuse(came, ConnectionError, f"did not all come to {host}:{port} in time. Missing: {missing}.", me)
            try:
                other = _introduced(line.receive(min(deadline - time.monotonic(), 5)))
            except OSError:  # a program that looks for open ports, for instance
                line.close()
                continue
            line.process_id = other.process_id
            if fault := _fault(other, me, came):
                _refuse(came | {-1: line}, ValueError, fault, me)
            came[other.process_id] = line
    for line in came.values():
        line.send(go=True)
    return list(came.values())


def _introduced(message: dict) -> Member:
    """The process that says so; ConnectionError if it is none of a group."""
    kinds = {"process_id": int, "num_processes": int, "versions": dict}
    if {name: type(value) for name, value in message.items()} != kinds:
        raise ConnectionError("it says something else than a process of a group")
    return Member(**message)


def _listening(host: str, port: int) -> socket.socket:
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        raise ValueError(
            f"`address` (='{host}:{port}') must have a free port on the host of the first process ({error.strerror}). "
            "Choose another one, in all processes; or wait until what uses it has ended."
        ) from None


def _check_own(host: str, port: int) -> None:
    """Raise ValueError unless the first process, which listens, is at the address that all will go to."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise ValueError(
            f"`address` (='{host}:{port}') must be that of the first process's host, and it does not reach itself "
            f"there ({error.strerror or error}). Give an address of this host, in all processes."
        ) from None


def _fault(other: Member, me: Member, came: dict[int, Line]) -> str:
    """What is wrong with a process that wants to join; nothing if it may."""
    number, others = other.process_id, [other.num_processes, me.num_processes]
    if others[0] != others[1]:
        return f"must be of one number, and process {number} expects {others[0]} and process 0 {others[1]}."
    if number == 0 or number in came:
        return f"must have a `process_id` each, and two have {number}."
    differ = [name for name in me.versions if other.versions.get(name) != me.versions[name]]
    if differ:
        listing = ", ".join(f"{name} ({other.versions.get(name)}, {me.versions[name]})" for name in differ)
        return f"must have the same packages, and processes {number} and 0 differ in {listing}."
    return ""


def _refuse(came: dict[int, Line], kind: type[Exception], fault: str, me: Member) -> None:
    message = f"The {me.num_processes} processes {fault} Start all again after that is fixed."
    for line in came.values():
        line.send(fault=message, kind=kind.__name__)
        line.close()
    raise kind(message)


def join(host: str, port: int, me: Member, deadline: float) -> list[Line]:
    """Go to the first process, which may not be there yet, and wait until all have come."""
    while True:
        line = None
        try:
            line = Line(socket.create_connection((host, port), timeout=max(deadline - time.monotonic(), 0.01)))
            line.send(**dataclasses.asdict(me))
            message = line.receive(deadline - time.monotonic() + 5)  # the first one knows first who is missing
            break
        except OSError as error:
            if line:
                line.close()
            if time.monotonic() > deadline:
                raise ConnectionError(
                    f"The first of {me.num_processes} processes was not to be found at {host}:{port} in time "
                    f"({error.strerror or error}). Start it, or fix `address`, in all processes."
                ) from None
            time.sleep(0.2)
    if "fault" in message:
        line.close()
        raise (ConnectionError if message.get("kind") == "ConnectionError" else ValueError)(message["fault"])
    return [line]
