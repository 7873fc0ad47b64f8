"""Run the README's code blocks, one after the other in one folder: python blocks in Python, console blocks in bash.

Blocks that begin with `make`, which this program is run by, are left out. The program is no test by itself, since the
blocks train a network: `make readme` runs it.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def main() -> int:
    blocks = BLOCK.findall((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for part in ("scripts", "applications"):
            os.symlink(REPOSITORY / part, pathlib.Path(folder, part))
        environment = os.environ | {"PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        ran = 0
        for language, code in blocks:
            if code.startswith(("make", "pip", "git")):
                continue
            command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
            start = time.perf_counter()
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"README.md: this block failed:\n{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
                return 1
            ran += 1
            print(f"README.md: {language} block {ran} ran in {time.perf_counter() - start:.0f} s")
    return 0 if ran else 1


if __name__ == "__main__":
    sys.exit(main())
