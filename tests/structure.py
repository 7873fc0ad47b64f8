"""What the code's own text says of its structure: who imports whom, how long files are, which passages stand twice.

python tests/structure.py   # draws the diagram in CONTRIBUTING.md again
"""

import ast
import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("keras_condense", "scripts", "benchmarks", "applications", "tests")
LONGEST_FILE = 350  # lines
LONGEST_PASSAGE = 12  # lines of code that may stand twice

_BEGIN, _END = "<!-- imports: drawn by tests/structure.py -->", "<!-- end of imports -->"


def sources() -> list[pathlib.Path]:
    """Every Python file that is written by hand."""
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


# --- who imports whom ------------------------------------------------------------------------------------------------
def _room(module: str) -> str | None:
    """The part of the package that a module belongs to: the subpackage, or the file beside them."""
    parts = module.split(".")
    if parts[0] != "keras_condense" or len(parts) == 1:
        return None
    return parts[1]


def imports_of(tree: ast.AST) -> set[str]:
    """Modules of this package that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            if node.module == "keras_condense":
                found |= {f"keras_condense.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("keras_condense")}


def imports() -> dict[str, set[str]]:
    """For each room of the package, the rooms that it imports."""
    package = ROOT / "keras_condense"
    graph: dict[str, set[str]] = collections.defaultdict(set)
    for path in package.rglob("*.py"):
        relative = path.relative_to(package)
        if relative.parts == ("__init__.py",):
            continue
        room = relative.parts[0].removesuffix(".py")
        rooms = {_room(module) for module in imports_of(ast.parse(path.read_text()))}
        graph[room] |= {other for other in rooms if other not in (None, room)}
    return {room: {other for other in others if other in graph} for room, others in sorted(graph.items())}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Paths that lead back to where they began."""
    found, done = [], set()

    def walk(room: str, path: list[str]) -> None:
        if room in path:
            found.append([*path[path.index(room) :], room])
        elif room not in done:
            for other in sorted(graph[room]):
                walk(other, [*path, room])
            done.add(room)

    for room in graph:
        walk(room, [])
    return found


def levels(graph: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by how high they stand: each imports only what stands below it."""
    height: dict[str, int] = {}

    def measure(room: str) -> int:
        if room not in height:
            height[room] = 1 + max((measure(other) for other in graph[room]), default=-1)
        return height[room]

    for room in graph:
        measure(room)
    return [sorted(room for room in graph if height[room] == level) for level in range(max(height.values()) + 1)]


def _direct(graph: dict[str, set[str]]) -> dict[str, list[str]]:
    """The imports that no path through other rooms stands for."""

    def below(room: str) -> set[str]:
        return graph[room] | {far for other in graph[room] for far in below(other)}

    return {room: sorted(others - {far for other in others for far in below(other)}) for room, others in graph.items()}


def diagram() -> str:
    """The rooms from the highest level to the lowest, and what each imports directly."""
    graph = imports()
    direct = _direct(graph)
    lines = []
    for rooms in reversed(levels(graph)):
        lines += [f"{room:18s} -> {', '.join(direct[room])}" if direct[room] else room for room in rooms]
        lines.append("")
    return "\n".join([_BEGIN, "```text", *lines[:-1], "```", _END])


def with_diagram(text: str) -> str:
    """CONTRIBUTING.md with the diagram as it is now."""
    return re.sub(re.escape(_BEGIN) + ".*" + re.escape(_END), lambda _: diagram(), text, flags=re.DOTALL)


# --- passages --------------------------------------------------------------------------------------------------------
def _code(path: pathlib.Path) -> list[tuple[int, str]]:
    """Numbers and texts of a file's lines, without blank ones and without imports."""
    text = path.read_text()
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            skipped |= set(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    return [(number, line.strip()) for number, line in lines if line.strip() and number not in skipped]


def repeated_passages(longest: int = LONGEST_PASSAGE) -> list[str]:
    """Passages of more lines than that which stand twice: where, and where again."""
    window, seen, found = longest + 1, {}, []
    for path in sources():
        lines, last = _code(path), 0
        for start in range(len(lines) - window + 1):
            passage = tuple(line for _, line in lines[start : start + window])
            first = seen.setdefault(passage, (path, lines[start][0]))
            if first != (path, lines[start][0]) and lines[start][0] > last:
                last = lines[start + window - 1][0]
                here, there = (
                    f"{each.relative_to(ROOT)}:{number}" for each, number in ((path, lines[start][0]), first)
                )
                found.append(f"{here} repeats {there}")
    return found


def long_files() -> list[str]:
    """Files beyond the longest length whose text does not say at its top why."""
    found = []
    for path in sources():
        text = path.read_text()
        lines = text.count("\n")
        if lines >= LONGEST_FILE and "This file is long" not in (ast.get_docstring(ast.parse(text)) or ""):
            found.append(f"{path.relative_to(ROOT)}: {lines} lines")
    return found


if __name__ == "__main__":
    contributing = ROOT / "CONTRIBUTING.md"
    contributing.write_text(with_diagram(contributing.read_text()))
