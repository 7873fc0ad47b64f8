"""Processes of a group meet within a time limit, say in words why they can't, and end when one of them does."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import keras
import pytest
from test_training_on_several import environment, free_port, needs_jax

from keras_condense.training import meeting, process_group

VERSIONS = {"keras": "3.0", "jax": "1.0"}


def meet(*members, timeout=10.0):
    """What each member gets: its lines, or the error."""
    port, found = free_port(), [None] * len(members)

    def come(place, member):
        arrive = meeting.gather if member.process_id == 0 and place == 0 else meeting.join
        try:
            found[place] = arrive("localhost", port, member, time.monotonic() + timeout)
        except (ValueError, ConnectionError) as error:
            found[place] = error

    threads = [threading.Thread(target=come, args=pair) for pair in enumerate(members)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lines in found:
        for line in lines if isinstance(lines, list) else []:
            line.close()
    return found


def member(process_id, num_processes, **versions):
    return meeting.Member(process_id, num_processes, VERSIONS | versions)


def test_all_meet_whoever_comes_first():
    found = meet(*(member(number, 4) for number in range(4)))
    assert sorted(line.process_id for line in found[0]) == [1, 2, 3]
    assert [len(lines) for lines in found[1:]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("members", "kind", "message"),
    [
        ([member(0, 3), member(1, 3)], ConnectionError, "did not all come to localhost:[0-9]+ in time. Missing: 2. "),
        ([member(0, 2), member(1, 3)], ValueError, "must be of one number, and process 1 expects 3 and process 0 2. "),
        ([member(0, 2), member(0, 2)], ValueError, "must have a `process_id` each, and two have 0. "),
        (
            [member(0, 2), member(1, 2, keras="3.1")],
            ValueError,
            r"must have the same packages, and processes 1 and 0 differ in keras \(3.1, 3.0\). ",
        ),
    ],
)
def test_who_can_not_meet_is_told_in_each_process(members, kind, message):
    for error in meet(*members, timeout=1.5):
        with pytest.raises(kind, match=message):
            raise error


def test_a_first_process_that_never_comes():
    started = time.monotonic()
    (error,) = meet(member(1, 2), timeout=1.0)
    assert isinstance(error, ConnectionError)
    assert "The first of 2 processes was not to be found at localhost:" in str(error)
    assert time.monotonic() - started < 3


def test_a_port_in_use():
    with socket.create_server(("", 0)) as used:
        address = "localhost", used.getsockname()[1]
        with pytest.raises(ValueError, match="must have a free port on the host of the first process"):
            meeting.gather(*address, member(0, 2), time.monotonic() + 1)


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b'{"process_id": 1}\n', b"1\n", b"", b"[" * 100_000, b"[" * 50_000 + b"\n"]
)
def test_strangers_are_left_out(said):
    port, found = free_port(), []
    first = threading.Thread(
        target=lambda: found.extend(meeting.gather("localhost", port, member(0, 2), time.monotonic() + 10))
    )
    first.start()
    time.sleep(0.1)
    with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(said)
    (line,) = meeting.join("localhost", port, member(1, 2), time.monotonic() + 10)
    first.join()
    assert [one.process_id for one in found] == [1]
    found[0].send(hello=True)
    assert line.receive(1) == {"hello": True}
    for one in (line, *found):
        one.close()


def test_an_address_of_another_host():
    with pytest.raises(ValueError, match=r"must be that of the first process's host, and it does not reach itself"):
        meeting.gather("no-such-host.invalid", free_port(), member(0, 2), time.monotonic() + 1)


def test_lines_come_one_by_one():
    left, right = map(meeting.Line, socket.socketpair(socket.AF_INET) if os.name == "nt" else _pair())
    left.connection.sendall(json.dumps({"a": 1}).encode() + b'\n{"b": 2}\n{"c"')
    assert right.receive_all() == [{"a": 1}, {"b": 2}]
    left.connection.sendall(b": 3}\n")
    assert right.receive_all() == [{"c": 3}]
    left.close()
    with pytest.raises(ConnectionError):
        right.receive_all()
    right.close()


def _pair():
    with socket.create_server(("localhost", 0)) as server:
        return socket.create_connection(server.getsockname()), server.accept()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost", 2, 0), "must be the host and a port of the first process"),
        (("localhost:0", 2, 0), "must be the host and a port of the first process"),
        ((None, 2, 0), "must be the host and a port of the first process"),
        (("localhost:1234", 0, 0), "`num_processes`"),
        (("localhost:1234", 2, 2), r"`process_id` \(=2\) must be an integer in \[0, 2\)"),
        (("localhost:1234", 2, True), "`process_id`"),
        (("localhost:1234", 2, 0, 0), "`timeout` .=0. must be a number of seconds above 0"),
        (("localhost:1234", 2, 0, float("nan")), "`timeout`"),
    ],
)
def test_what_is_asked_for_is_checked(arguments, message):
    with pytest.raises(ValueError, match=message), process_group(*arguments):
        pass


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="it is another backend that is refused")
def test_other_backends_are_refused():
    with pytest.raises(ValueError, match=r"must be 'jax' to train in several processes\. Set KERAS_BACKEND=jax"):
        process_group("localhost:1234", 2, 0).__enter__()


PROGRAM = """
import sys, time
import numpy as np
import keras_condense as kc
number, kind = int(sys.argv[2]), sys.argv[3]
with kc.training.process_group(f"localhost:{sys.argv[1]}", 2, number, timeout=100):
    from jax.experimental import multihost_utils
    both = multihost_utils.process_allgather(np.array(number)).tolist()
    print("together", both, flush=True)
    if kind == "fails" and number:
        raise ValueError("mine alone")
    if kind != f"killed {number}":
        multihost_utils.process_allgather(np.array(number))  # which the other one never joins
    time.sleep(100)
"""


def start(kind):
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, port, number, kind],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )
        for number in "01"
    ]  # fmt: skip


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fails", "killed 0", "killed 1"])
def test_none_outlives_another(kind):
    processes = start(kind)
    try:
        if kind.startswith("killed"):
            lost = int(kind[-1])
            other = processes[1 - lost]
            for process in processes:
                assert "together [0, 1]\n" in iter(process.stdout.readline, "")
            processes[lost].send_signal(signal.SIGKILL)
            started = time.monotonic()
            said = other.communicate(timeout=60)[1]
            assert other.returncode != 0
            assert time.monotonic() - started < 20, said  # by our line, or by what JAX says if it hears of it first
            return
        said = [process.communicate(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert all(process.returncode == 1 for process in processes)
    assert said[1][1].splitlines()[-1] == "ValueError: mine alone"
    assert "ConnectionError: Process 1 of 2 failed, so process 0 ends too. Start all again" in said[0][1]
