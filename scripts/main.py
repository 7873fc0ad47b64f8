"""`keras-condense VERB ...`: the scripts as one installed command."""

import difflib
import importlib
import importlib.metadata
import pathlib
import sys
from collections.abc import Sequence

COMMAND = "keras-condense"
VERBS = {
    "train": ("train", "train a network that condenses itself"),
    "condense": ("condense", "make the small network that computes the same"),
    "export": ("export_tflite", "lower it to a .tflite file for phones, servers or pages"),
    "evaluate": ("evaluate", "measure its accuracy on a whole test set"),
    "predict": ("predict", "name what photographs show"),
    "benchmark": ("benchmark", "time .tflite files on this machine"),
    "sensitivity": ("sensitivity", "measure what accuracy compressing each layer costs"),
    "describe": ("describe", "count parameters and multiply-adds"),
    "plot": ("plot", "draw trainings, connections, costs or exported files"),
    "check-images": ("check_images", "find the images of a folder that can't be decoded"),
    "convert-weights": ("convert_weights", "make a .keras file of published weights"),
}


def usage() -> str:
    """What the command can do."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {described}" for verb, (_, described) in VERBS.items())
    return f"usage: {COMMAND} VERB ...\n\n{verbs}\n\n`{COMMAND} VERB --help` shows options and examples."


def main(argv: Sequence[str] | None = None) -> int:
    verb, *arguments = (sys.argv[1:] if argv is None else list(argv)) or [""]
    if verb in ("", "-h", "--help", "help"):
        print(usage(), file=sys.stdout if verb else sys.stderr)
        return 0 if verb else 2
    if verb == "--version":
        print(COMMAND, importlib.metadata.version(COMMAND))
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        meant = f"Did you mean {near[0]!r}?" if near else f"Choose one of {', '.join(VERBS)}."
        print(f"error: {verb!r} is no verb of {COMMAND}. {meant}", file=sys.stderr)
        return 2
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))  # scripts import each other by their names
    sys.argv = [f"{COMMAND} {verb}", *arguments]  # what help and errors call it
    return importlib.import_module(VERBS[verb][0]).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
