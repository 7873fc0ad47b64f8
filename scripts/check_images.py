"""Decode every image of a folder and name those that are broken, before a training meets them."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import command_line

EXAMPLES = """\
  python scripts/check_images.py photographs/                 # a line for each broken file; exit status 1 if any is
"""


def parser() -> argparse.ArgumentParser:
    parser = command_line.new_parser(__doc__, EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", help="looked through with all its folders")
    return parser


def check(arguments: argparse.Namespace) -> None:
    from keras_condense.datasets.decoding import in_threads, read_image
    from keras_condense.datasets.folders import ENDINGS, Visited, files_below, is_image

    folder = pathlib.Path(arguments.folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"`FOLDER` (={arguments.folder!r}) must be an existing folder. Check the name.")
    paths = [str(path) for path in files_below(folder, Visited(folder)) if is_image(path)]
    if not paths:
        raise ValueError(
            f"`FOLDER` (={arguments.folder!r}) must hold images ({', '.join(ENDINGS)}), and holds none. Check the name."
        )

    def fault(path: str) -> str | None:
        try:
            read_image(path)
        except ValueError as error:
            return " ".join(str(error).split())
        return None

    broken = 0
    for message in filter(None, in_threads(fault, paths)):
        print(message, flush=True)
        broken += 1
    if broken:
        raise ValueError(f"{broken:,} of {len(paths):,} images are broken. Fix or remove them.")
    print(f"all {len(paths):,} images can be decoded")


def main(argv: Sequence[str] | None = None) -> int:
    return command_line.run(parser(), check, argv)


if __name__ == "__main__":
    sys.exit(main())
