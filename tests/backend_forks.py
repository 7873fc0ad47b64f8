"""Runs programs on JAX or PyTorch in processes of their own, forked from one that has imported the backend.

As in `forked`, but for backends that tests' own processes have not: each has a server, which has imported it and this
package, with TensorFlow out of reach. Imports compute nothing, so that no backend has begun before a fork.

    program = Program([script, "--help"], folder=tmp_path)   # as `python script --help`
    (done,) = backend_forks.run("jax", [program])            # several run beside each other
"""

import atexit
import dataclasses
import functools
import gc
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import forked

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Program:
    """What to run: a file of Python and its arguments, in a folder, with variables of the environment.

    Of the variables, those count that are read after the imports, such as XLA_FLAGS.
    """

    command: list
    folder: str | os.PathLike
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Done:
    """The exit code of a program, negative if a signal ended it, and what it printed, errors included."""

    code: int
    output: str


def run(backend: str, programs: list[Program], timeout: float = 300) -> list[Done]:
    """Run programs beside each other until all have ended.

    Raises:
        TimeoutError: one took longer than `timeout` seconds; all were ended.
    """
    server = _server(backend)
    with tempfile.TemporaryDirectory() as folder:
        outputs = [pathlib.Path(folder, str(number)) for number in range(len(programs))]
        orders = [
            {
                "command": [str(word) for word in program.command],
                "folder": str(program.folder),
                "environment": os.environ | program.environment,
                "output": str(output),
            }
            for program, output in zip(programs, outputs, strict=True)
        ]
        server.stdin.write(json.dumps({"orders": orders, "timeout": timeout}) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        assert answer, f"{backend} or this package can't be imported with it: see above"
        codes = json.loads(answer)
        said = [output.read_text(errors="replace") for output in outputs]
    if None in codes:
        raise TimeoutError(f"{programs} took longer than {timeout} s\n" + "\n".join(said))
    return [Done(code, text) for code, text in zip(codes, said, strict=True)]


@functools.cache
def _server(backend: str) -> subprocess.Popen:
    """The process that has imported a backend; it ends with this one."""
    compiled = tempfile.TemporaryDirectory()
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        # what one program compiled, the next ones load
        "JAX_COMPILATION_CACHE_DIR": compiled.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    server = subprocess.Popen(
        [sys.executable, __file__, backend], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    atexit.register(compiled.cleanup)
    atexit.register(server.communicate)  # which ends it; called before the folder's cleanup
    return server


def _serve(backend: str) -> None:
    """Do what is ordered, one line after the other, and answer with exit codes."""
    sys.modules["tensorflow"] = None  # any import of it fails
    __import__(backend)
    import keras  # noqa: F401

    import keras_condense  # noqa: F401

    kept = {name: os.environ[name] for name in ("KERAS_BACKEND", "JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES")}
    gc.freeze()
    while line := sys.stdin.readline():
        asked = json.loads(line)
        begun = []
        for order in asked["orders"]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # JAX warns of every fork, for it has threads once it has computed
                begun.append(os.fork())
            if begun[-1] == 0:
                sys.stdin.close()
                return forked.become(**order | {"environment": order["environment"] | kept}, errors=None)
        codes = _codes(begun, time.monotonic() + asked["timeout"])
        print(json.dumps(codes), flush=True)


def _codes(processes: list[int], deadline: float) -> list[int | None]:
    """The exit codes of processes once all have ended; None of those that had not at the deadline, and were ended."""
    codes = dict.fromkeys(processes)
    late = False
    while None in codes.values() and not late:
        late = time.monotonic() > deadline
        for process in [process for process, code in codes.items() if code is None]:
            if late:
                os.kill(process, 9)
                os.waitpid(process, 0)
            elif (ended := os.waitpid(process, os.WNOHANG))[0]:
                codes[process] = os.waitstatus_to_exitcode(ended[1])
        time.sleep(0.01)
    return list(codes.values())


if __name__ == "__main__":
    _serve(sys.argv[1])
