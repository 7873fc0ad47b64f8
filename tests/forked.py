"""Runs programs in processes of their own, forked from one that has imported TensorFlow and this package.

Importing them takes longer than most programs run. Imports compute nothing, so that TensorFlow has no threads yet,
which a fork would lose. Not for programs that need another backend, which `backend_forks` is for, or variables of the
environment that imports read.

    forked.run(script, "--help", folder=tmp_path, output=tmp_path / "output.txt")   # as `python script --help`
"""

import multiprocessing
import os
import pathlib
import runpy
import sys
from multiprocessing.process import BaseProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tensorflow", "keras", "keras_condense", "keras_condense.tflite"])


def start(
    script: str | os.PathLike, *arguments: object, folder: str | os.PathLike, output: str | os.PathLike, errors=None
) -> BaseProcess:
    """The process of a program, which is running.

    Args:
        script: a file of Python.
        arguments: what would follow it in a command.
        folder: where it runs.
        output: the file to write what it prints to.
        errors: the file to write what it prints as an error to; `output` if None.
    """
    command = [str(script), *map(str, arguments)]
    pathlib.Path(output).write_bytes(b"")
    process = _CONTEXT.Process(target=become, args=(command, str(folder), output, errors, dict(os.environ)))
    process.start()
    return process


def run(script: str | os.PathLike, *arguments: object, timeout: float | None = None, **places) -> int:
    """The exit code of a program that has ended, negative if a signal ended it; for `places` see `start`.

    Raises:
        TimeoutError: it took longer than `timeout` seconds, and was ended.
    """
    process = start(script, *arguments, **places)
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{script} took longer than {timeout} s")
    return process.exitcode


def become(command: list[str], folder: str, output, errors, environment: dict[str, str]) -> None:
    """Make this process what `python *command` would be, and run it."""
    for stream, path in ((1, output), (2, errors or output)):
        with open(path, "ab") as file:
            os.dup2(file.fileno(), stream)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv, sys.path[0] = command, str(pathlib.Path(command[0]).parent)
    runpy.run_path(command[0], run_name="__main__")
