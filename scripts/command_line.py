"""What the scripts share: a quiet start, errors in one line, and the arguments that name networks.

Keras and TensorFlow take seconds to import: scripts import them once their arguments are read, so that `--help` and
mistyped options are answered at once.
"""

import argparse
import ast
import contextlib
import importlib.util
import inspect
import logging
import os
import pathlib
import re
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

EXIT_CODES = (
    "exit codes: 0 done, 1 an error that you can fix, 2 wrong usage, 130 interrupted, 141 nobody reads the output"
)
BROKEN_PIPE = 141  # as a shell says of a program that ended writing to a closed pipe


def new_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser whose help ends with examples, of scripts or of the installed command."""
    examples = re.sub(r"python scripts/(\w+)\.py", lambda match: " ".join(words_of(match[1])), examples)
    return argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples.rstrip()}\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def run(
    parser: argparse.ArgumentParser, action: Callable[[argparse.Namespace], None], argv: Sequence[str] | None
) -> int:
    """Parse `argv`, call `action` on the result and return the exit code; an error becomes one line on stderr."""
    arguments = parser.parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_args, **_kwargs: print(f"warning: {message}", file=sys.stderr)
        try:
            _import_quietly()
            action(arguments)
        except BrokenPipeError:  # `script | head`: nobody reads on, and the work is not done
            _write_no_more()
            return BROKEN_PIPE
        except (ValueError, OSError, ImportError) as error:
            print(f"error: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
            return 1
        except Exception as error:
            if not _is_tensorflow_error(error):
                raise
            print(f"error: {_reason(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("error: interrupted", file=sys.stderr)
            return 130
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # only of what was still to be printed
        _write_no_more()
    return 0


def _write_no_more() -> None:
    """Have Python's own last flush succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_tensorflow_error(error: Exception) -> bool:
    """Whether an error is of a kind of TensorFlow's own: memory that is full, or what a pipeline of data raised."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(error, tensorflow.errors.OpError)


def _reason(error: Exception) -> str:
    """What went wrong in Python inside a pipeline of TensorFlow's, or the first line of what it says itself."""
    text = str(error)
    raised = re.search(r"^(?:\w*Error: )(.+)$", text, re.MULTILINE)
    lines = [line for line in text.splitlines() if line.strip()]
    return raised[1] if raised else lines[0].strip() if lines else type(error).__name__


def _import_quietly() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _native_output_logged()():  # what TensorFlow's libraries write while they load heeds no setting
        import keras_condense  # noqa: F401


def _native_output_logged() -> Callable[[], contextlib.AbstractContextManager]:
    """The package's own, got by its path: as a module of the package it can't be had before Keras is imported."""
    (package,) = importlib.util.find_spec("keras_condense").submodule_search_locations
    return runpy.run_path(os.path.join(package, "tflite", "runtime", "native_output.py"))["native_output_logged"]


def words_of(script: str) -> list[str]:
    """How a script is called in the way that this one was: as a file, or as a verb of the installed command."""
    import main

    if not sys.argv[0].startswith(f"{main.COMMAND} "):
        return ["python", f"scripts/{script}.py"]
    return [main.COMMAND, next(verb for verb, (name, _) in main.VERBS.items() if name == script)]


def numbers(text: str) -> tuple[int, ...]:
    """Return the integers of "4-4-4" or "32x48"; an argparse type."""
    try:
        return tuple(int(part) for part in text.replace("x", "-").split("-"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be integers, joined by dashes for blocks (4-4-4) and by an x for sizes (32x48)"
        ) from None


# the options of a network that have a flag: its type, how to write it, and what it is
NETWORK_OPTIONS = {
    "stages": (numbers, "4-4-4", "layers of each dense block"),
    "growth_rates": (numbers, "8-16-32", "channels that each layer of a block adds"),
    "groups": (int, "N", "groups of the convolutions"),
    "condense_factor": (int, "N", "keep one of so many connections"),
    "group_lasso": (float, "WEIGHT", "weight of the group lasso in the loss"),
    "dropout_rate": (float, "SHARE", "share of activations to drop"),
}


def add_network_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the options that a network's constructor may take; where they are left out, its own defaults hold."""
    for name, (kind, metavar, help_text) in NETWORK_OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=help_text)


def build_network(arguments: argparse.Namespace, name: str, input_shape: Sequence[int] | None, classes: int | None):
    """Build the network called `name` in `keras_condense.applications` with the options that were given.

    Where `stages` and `growth_rates` must be given and are not, they are 4-4-4 and 8-16-32, doubling block by block.
    The network's own defaults hold where `input_shape` or `classes` is None.
    """
    constructor = find_constructor(name)
    accepted = inspect.signature(constructor).parameters
    options = {key: getattr(arguments, key) for key in NETWORK_OPTIONS if getattr(arguments, key) is not None}
    if unknown := sorted(options.keys() - accepted.keys()):
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in unknown)
        raise ValueError(f"`network` (={constructor.__name__!r}) has no option {flags}. Leave it out.")
    required = {key for key, parameter in accepted.items() if parameter.default is parameter.empty}
    if "stages" in required:
        options.setdefault("stages", (4, 4, 4))
    if "growth_rates" in required:
        options.setdefault("growth_rates", tuple(8 * 2**block for block in range(len(options["stages"]))))
    if input_shape is not None:
        options["input_shape"] = tuple(input_shape)
        is_small = min(input_shape[:2]) <= 64  # as the papers' networks for CIFAR
        if "stem_strides" in accepted:
            options["stem_strides"] = 1 if is_small else 2
        if "stem" in accepted:
            options["stem"] = "cifar" if is_small else "imagenet"
    if classes is not None:
        options["classes"] = classes
    return constructor(weights=None, **options)


def build_learning(arguments: argparse.Namespace, name: str, input_shape: Sequence[int], classes: int):
    """Build the network called `name` in `keras.applications`, untrained, with learned groups in its 1x1 convolutions.

    Networks that normalize by themselves leave it to the data set where they can.
    """
    import keras

    import keras_condense as kc

    constructors = {key.lower(): value for key, value in vars(keras.applications).items() if key[:1].isupper()}
    if name.lower() not in constructors:
        listing = ", ".join(constructor.__name__ for constructor in constructors.values())
        raise ValueError(f"`learn_groups` (={name!r}) must be a name in keras.applications. Choose one of {listing}.")
    constructor = constructors[name.lower()]
    accepted = inspect.signature(constructor).parameters
    options = {"include_preprocessing": False} if "include_preprocessing" in accepted else {}
    given = {key: getattr(arguments, key) for key in NETWORK_OPTIONS if getattr(arguments, key) is not None}
    learning = {"groups": 4, "condense_factor": 4} | given
    if unknown := sorted(learning.keys() - inspect.signature(kc.learn_groups).parameters.keys()):
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in unknown)
        raise ValueError(f"`learn_groups` (={name!r}) has no option {flags}. Leave it out.")
    network = constructor(weights=None, input_shape=tuple(input_shape), classes=classes, **options)
    return kc.learn_groups(network, **learning)


def find_constructor(name: str) -> Callable[..., Any]:
    """Return the function called `name`, in whatever letter case, in `keras_condense.applications`."""
    import keras_condense as kc

    constructors = {key.lower(): getattr(kc.applications, key) for key in kc.applications.__all__ if key[0].isupper()}
    if name.lower() not in constructors:
        listing = ", ".join(constructor.__name__ for constructor in constructors.values())
        raise ValueError(
            f"`network` (={name!r}) must be a name in keras_condense.applications. Choose one of {listing}."
        )
    return constructors[name.lower()]


def read_call(option: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the keyword arguments of a call such as "ShuffleNet(groups=8)", or of a name alone.

    Args:
        option: what the user calls `text`, for the message.
        text: the call; its arguments are literals.
    """
    with contextlib.suppress(SyntaxError, ValueError):
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return call.id, {}
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
            if None not in arguments:  # as `**{}` would be
                return call.func.id, arguments
    raise ValueError(
        f"`{option}` (={text!r}) must be a name, or a name and arguments in brackets. "
        "Write for instance 'ShuffleNet(groups=8)', in quotation marks."
    )


def read_network(option: str, text: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the constructor and the arguments of a network such as "CondenseNet50" or "ShuffleNet(groups=8)"."""
    name, arguments = read_call(option, text)
    constructor = find_constructor(name)
    accepted = inspect.signature(constructor).parameters.keys() - {"weights"}
    if unknown := sorted(arguments.keys() - accepted):
        raise ValueError(
            f"`{option}` (={text!r}) has the argument {unknown[0]!r}, which {constructor.__name__} does not take here. "
            f"Choose among {', '.join(sorted(accepted))}."
        )
    return constructor, arguments


def check_complete(option: str, text: str) -> None:
    """Raise ValueError where a network such as "CondenseNet" lacks arguments that have no default."""
    constructor, arguments = read_network(option, text)
    parameters = inspect.signature(constructor).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if missing := [name for name in required if name not in arguments]:
        raise ValueError(
            f"`{option}` (={text!r}) must have the argument{'s' * (len(missing) > 1)} {', '.join(missing)}, which "
            f"{constructor.__name__} has no default for. Write them in brackets behind the name."
        )


def check_file(path: str, suffix: str, *, to_write: bool = False) -> pathlib.Path:
    """Raise ValueError unless `path` ends in `suffix` and is a file, or could be written, before any work is done."""
    from keras_condense.files import check_writable

    if not path.endswith(suffix):
        raise ValueError(f"`path` (={path!r}) must end in {suffix!r}. Name it so.")
    if to_write:
        return check_writable(path)
    if not os.path.isfile(path):
        raise ValueError(f"`path` (={path!r}) must be an existing file. Check the name.")
    return pathlib.Path(path)


def check_model_file(path: str) -> None:
    """Raise ValueError unless `path` is an existing `.keras` or `.tflite` file."""
    suffix = pathlib.Path(path).suffix
    if suffix not in (".keras", ".tflite"):
        raise ValueError(f"`MODEL` (={path!r}) must end in '.keras' or '.tflite'. Give the file of a network.")
    check_file(path, suffix)


def image_shape_of(model: Any, path: str) -> tuple[int | None, int | None, int]:
    """Return (height, width, channels) of a model's images; raise ValueError where it takes something else."""
    shape = getattr(model, "input_shape", None)  # a model that was never built has none
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise ValueError(
            f"`MODEL` (={path!r}) must take one image (height, width, channels), and takes "
            f"{'inputs of no known shape' if shape is None else shape}. Give a model of images."
        )
    return shape[1:]


def need_tensorflow() -> None:
    """Raise ValueError or ImportError unless Keras runs on TensorFlow, which alone can export."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"`KERAS_BACKEND` (={keras.backend.backend()!r}) must be 'tensorflow' to export; a model trained with "
            "another backend will do. Run this command again with KERAS_BACKEND=tensorflow."
        )


@contextlib.contextmanager
def log_shown(name: str) -> Iterator[None]:
    """Print what a module logs, from level INFO on, to standard error."""
    module_log = logging.getLogger(name)
    handler, level, propagate = logging.StreamHandler(), module_log.level, module_log.propagate
    module_log.addHandler(handler)
    module_log.setLevel(logging.INFO)
    module_log.propagate = False
    try:
        yield
    finally:
        module_log.removeHandler(handler)
        module_log.setLevel(level)
        module_log.propagate = propagate
