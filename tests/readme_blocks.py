"""Run the code blocks of README.md and docs/, page by page: python blocks in Python, bash blocks in bash.

The blocks of a page run one after the other in a folder of their own, each in a process of its own. Blocks that begin
with `make`, which this program is run by, with `pip` or with `git` are left out; `py` and `sh` mark blocks that need a
network, data or hours. The program is no test by itself, since the blocks train networks: `make readme` runs it.

    python tests/readme_blocks.py                        # all pages
    python tests/readme_blocks.py docs/guide/export.md   # some
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import forked

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[pathlib.Path]:
    return [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    """Language and code of the blocks that are to be run."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language, code) for language, code in found if not code.startswith(("make", "pip", "git"))]


def failed(language: str, code: str, folder: pathlib.Path, output: pathlib.Path) -> bool:
    """Whether a block fails, which runs in a folder and prints to a file."""
    if language == "python":
        script = folder / "block.py"
        script.write_text(code, encoding="utf-8")
        return forked.run(script, folder=folder, output=output) != 0
    environment = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", code]
    with open(output, "w") as file:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    return done.returncode != 0


def run(page: pathlib.Path) -> int | None:
    """How many blocks of a page ran; None if one failed."""
    name = page.relative_to(REPOSITORY)
    with tempfile.TemporaryDirectory() as folder:
        for part in ("scripts", "applications"):
            os.symlink(REPOSITORY / part, pathlib.Path(folder, part))
        output = pathlib.Path(folder, "output.txt")
        for ran, (language, code) in enumerate(blocks(page), start=1):
            start = time.perf_counter()
            if failed(language, code, pathlib.Path(folder), output):
                text = output.read_text(encoding="utf-8", errors="replace")
                print(f"{name}: this block failed:\n{code}\n{text[-6000:]}")
                return None
            print(f"{name}: {language} block {ran} ran in {time.perf_counter() - start:.0f} s", flush=True)
    return len(blocks(page))


def main() -> int:
    chosen = [pathlib.Path(argument).resolve() for argument in sys.argv[1:]] or pages()
    # programs take longest, and begun last they would leave the other cores idle at the end
    chosen.sort(key=lambda page: "bash" not in dict(blocks(page)))
    os.chdir(tempfile.gettempdir())  # or forked processes would import the source beside it, not what is installed
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # most of the time one core is busy
        ran = list(pool.map(run, filter(blocks, chosen)))
    return 0 if ran and None not in ran else 1


if __name__ == "__main__":
    sys.exit(main())
