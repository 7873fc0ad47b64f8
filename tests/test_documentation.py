"""README.md and docs/: links, code, and what `benchmarks/readme_tables.py` and `overview.py` write into them."""

import csv
import pathlib
import re
import sys

import keras
import pytest
import readme_blocks
from networks import shapes_only

import keras_condense as kc

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# those outside docs/, which mkdocs does not look at
OTHERS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "applications/README.md", "scripts/README.md",
          "keras_condense/tflite/README.md")  # fmt: skip


@pytest.fixture(scope="module")
def readme_tables():
    """The program as a module; it finds its neighbours as it does when it is run."""
    pytest.importorskip("pandas")
    names = ("common", "overview", "readme_tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import readme_tables

        yield readme_tables
    for name in names:  # names that others may have
        sys.modules.pop(name, None)


def anchors(page):
    """What links can name in a page: its headings, as browsers know them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", OTHERS)
def test_links_of_a_page_lead_somewhere(name):
    page = ROOT / name
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_a_page_is_python(page):
    for code in re.findall(r"^```(?:python|py)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        compile(code, str(page), "exec")


def test_pages_have_blocks_that_are_run():
    run = {str(page.relative_to(ROOT)) for page in readme_blocks.pages() if readme_blocks.blocks(page)}
    guides = ("train", "your_network", "compress", "devices")
    assert {"README.md", *(f"docs/guide/{name}.md" for name in guides)} < run
    commands = " ".join(code for _, code in readme_blocks.blocks(ROOT / "docs" / "guide" / "train.md"))
    for script in ("train", "condense", "export_tflite", "evaluate", "benchmark", "describe"):
        assert f"scripts/{script}.py" in commands


def test_the_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert re.search(r"^make quickstart  ", text, re.MULTILINE)
    assert re.search(r"^make test  ", text, re.MULTILINE)


FORMER = {"learnable_layers", "layers.LearnedInputs", "layers.learned_layers", "layers.LearnedGroupConv",
          "callbacks.learned_layers"}  # fmt: skip
INNER = {"callbacks.check_last_drop"}


def test_public_names_stand_in_the_reference():
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    listed = set(re.findall(r"^::: keras_condense\.(\S+)$", text, re.MULTILINE))
    public = set()
    for module in (kc, kc.layers, kc.callbacks, kc.datasets, kc.interop, kc.training):
        prefix = f"{module.__name__}.".removeprefix("keras_condense.")
        public |= {prefix + name for name in module.__all__ if callable(getattr(module, name))}
    assert public - FORMER - INNER <= listed


def test_every_family_has_a_page():
    for family in kc.applications.zoo.families():
        assert (
            f"::: keras_condense.applications.{family}\n" in (ROOT / "docs" / "networks" / f"{family}.md").read_text()
        )


# --- what is written into them ---------------------------------------------------------------------------------------
CSV = """network,ratio,bytes,device,threads,versions,date
one,0.25,123456,a core,1,keras 3,2020-01-01
"two, grouped",0.755,99,a core,1,keras 3,2020-01-01
"""


@pytest.fixture
def results(readme_tables, tmp_path, monkeypatch):
    (tmp_path / "made.csv").write_text(CSV)
    monkeypatch.setattr(readme_tables, "RESULTS", tmp_path)
    return readme_tables


def test_a_table_is_written(results):
    text = "before\n<!-- table: made [network, bytes] where network: two, grouped |\none -->\nold\n<!-- end -->\nafter"
    assert results.with_results(text) == (
        "before\n<!-- table: made [network, bytes] where network: two, grouped |\none -->\n"
        "| network | bytes |\n|---|---|\n| two, grouped | 99 |\n| one | 123,456 |\n\n"
        "a core; 1 threads; keras 3; 2020-01-01; `results/made.csv`.\n<!-- end -->\nafter"
    )


@pytest.mark.parametrize(
    ("figure", "written"),
    [
        ("[ratio] where network: one", "0.25"),
        ("[ratio .1f] where network: two, grouped", "0.8"),
        ("[least ratio]", "0.25"),
        ("[most ratio .2f]", "0.76"),
        ("[most bytes]", "123,456"),
    ],
)
def test_a_figure_is_written(results, figure, written):
    text = f"It takes <!-- figure: made {figure} --><!-- end --> of it."
    new = results.with_results(text)
    assert new == f"It takes <!-- figure: made {figure} -->{written}<!-- end --> of it."
    assert results.with_results(new) == new


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a <!-- figure: made [ratio] --><!-- end -->", "a figure of ratio must be of one row, and is of 2; say least"),
        ("<!-- figure: made [most ratio] --><!-- end -->", "must not begin a line"),
        ("a <!-- figure: made [most weight] --><!-- end -->", r"results/made\.csv lacks the columns weight"),
        ("a <!-- figure: made [ratio] where network: six --><!-- end -->", "has no row whose network is six"),
        ("a <!-- figure: none [most ratio] --><!-- end -->", r"results/none\.csv is missing"),
    ],
)
def test_a_figure_that_cannot_be_written_is_named(results, text, message):
    with pytest.raises(ValueError, match=message):
        results.with_results(text)


# --- the README's table ----------------------------------------------------------------------------------------------
def rows(name):
    with open(ROOT / "results" / f"{name}.csv", newline="") as file:
        return {row["network"]: row for row in csv.DictReader(file)}


def test_the_overview_says_what_the_results_say(readme_tables):
    table = {row["network"]: row for row in readme_tables.overview.rows()}
    networks, zoo = rows("imagenet_networks"), rows("zoo")
    row = table["CondenseNet-74, G=C=8"]
    arm64, x86_64 = (networks[f"CondenseNetImageNet74G8, export_tflite for {target}"] for target in ("arm64", "x86_64"))
    assert row["million_instructions"] == arm64["million_instructions"]
    assert row["ms_here"] == x86_64["ms_1_thread"]
    published = zoo["CondenseNet-74 (ImageNet, G=C=8)"]
    assert row["published_error"] == published["published_error"]
    assert float(row["million_multiply_adds"]) == pytest.approx(int(published["macs"]) / 1e6, abs=0.05)
    ratio = float(arm64["million_instructions"]) / float(networks["MobileNet"]["million_instructions"])
    assert float(row["instructions_to_mobilenet"]) == pytest.approx(ratio, abs=0.0006)
    assert table["CondenseNet-50"]["error_here"] == rows("accuracy")["CondenseNet50"]["error"]


@pytest.mark.parametrize("name", ["MobileNetV3Small", "MobileNetV3Large"])
def test_figures_of_keras_applications_are_those(readme_tables, name):
    error, macs = readme_tables.overview.KERAS[name]
    size = name.removeprefix("MobileNetV3").lower()
    constructor = getattr(keras.applications, name)
    accuracy = re.search(rf"mobilenet_v3_{size}_1\.0_224\s*\|[^|]*\|[^|]*\|\s*([\d.]+)", constructor.__doc__)[1]
    assert float(error) == pytest.approx(100 - float(accuracy))
    with shapes_only():
        model = constructor(weights=None, input_shape=(224, 224, 3))
        assert kc.profile_model(model).macs == macs
