"""The structure that CONTRIBUTING promises: no circles, a true diagram, nothing long, and nothing that stands twice."""

import ast

import pytest
import structure


def test_imports_have_no_circles():
    assert structure.circles(structure.imports()) == []


def test_diagram_in_contributing_is_true():
    text = (structure.ROOT / "CONTRIBUTING.md").read_text()
    assert structure.diagram() in text, "Run `python tests/structure.py`."


def test_modules_have_no_circles_either():
    """Modules that are imported when another is imported; what a function imports waits until it is called."""
    package = structure.ROOT / "keras_condense"
    graph = {}
    for path in package.rglob("*.py"):
        name = ".".join(("keras_condense", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        tree = ast.parse(path.read_text())
        at_once = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        graph[name] = structure.imports_of(ast.Module(at_once, []))
    for name, others in graph.items():
        # `from package import module` is an import of the module alone
        known = {other for other in others if other in graph and other != name}
        graph[name] = {other for other in known if not any(each.startswith(f"{other}.") for each in known)}
    del graph["keras_condense"]  # it imports all
    graph = {name: others - {"keras_condense"} for name, others in graph.items()}
    assert structure.circles(graph) == []


def test_no_file_is_long():
    assert structure.long_files() == []


def test_no_passage_stands_twice():
    assert structure.repeated_passages() == []


def test_a_repeated_passage_is_found(tmp_path, monkeypatch):
    passage = "\n".join(f"value_{number} = {number}" for number in range(structure.LONGEST_PASSAGE + 1))
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "one.py").write_text(f"import os\n\n{passage}\nx = 1\n")
    (folder / "two.py").write_text(f"def other():\n    y = 2\n\n\n{passage}\n")
    monkeypatch.setattr(structure, "ROOT", tmp_path)
    assert structure.repeated_passages() == ["scripts/two.py:5 repeats scripts/one.py:3"]
    assert structure.repeated_passages(longest=structure.LONGEST_PASSAGE + 1) == []


@pytest.mark.parametrize(
    ("graph", "expected"), [({"a": {"b"}, "b": set()}, []), ({"a": {"b"}, "b": {"a"}}, [["a", "b", "a"]])]
)
def test_circles(graph, expected):
    assert structure.circles(graph) == expected
