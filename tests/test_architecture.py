"""Who may import whom, read from the source; and every part has its contract test."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("spaces", "evaluators", "search")  # each may import those before it

TORCH_FREE = ("evaluators/base.py", "evaluators/synthetic.py")
# Library: where it may be imported, and exceptions within.
LIBRARIES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "optuna": (("search/samplers/", "search/record.py", "search/storage.py"), ()),
    "ray": (
        ("search/runners/ray_lane.py", "search/runners/ray_pool.py", "search/runners/tune.py", "search/tune.py"),
        (),
    ),
    "torch": (("evaluators/",), TORCH_FREE),
    "transformers": (("evaluators/",), (*TORCH_FREE, "evaluators/runtimes/onnxruntime/")),
    "datasets": (("evaluators/tasks/",), ()),
    "sklearn": (
        ("evaluators/codebook.py", "evaluators/metrics/", "evaluators/tasks/", "search/samplers/surrogate.py"),
        (),
    ),
    "onnx": (("evaluators/runtimes/onnxruntime/",), ()),
    "onnxruntime": (("evaluators/runtimes/onnxruntime/",), ()),
    "pydantic": (("search/config.py",), ()),
    "yaml": (("search/config.py",), ()),
    "typer": (("search/cli.py", "search/progress.py"), ()),
    "rich": (("search/cli.py", "search/progress.py"), ()),
    "matplotlib": (("search/report.py",), ()),
    "jinja2": (("search/report.py",), ()),
    "moocore": (("search/front.py",), ()),
    "numpy": (("evaluators/", "search/"), ()),
    "scipy": (("evaluators/", "search/"), ()),
    "pyarrow": (("evaluators/",), ()),
    "safetensors": (("evaluators/",), ()),
    "tokenizers": (("evaluators/",), ()),
    "PIL": (("evaluators/media.py",), ()),
    "soundfile": (("evaluators/media.py",), ()),
    "huggingface_hub": (("evaluators/hub.py", "evaluators/models.py", "evaluators/tasks/"), ()),
}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}  # where the name differs from the library's
UNDECLARED_BY_OTHERS = {"onnx-ir", "greenlet"}  # onnxruntime's 4-bit quantizer and Optuna's GP import them
# Where search builds concrete evaluators, inside the functions that need them.
BUILDERS = ("search/cli.py", "search/exporting.py", "search/run.py", "search/serving.py", "search/wiring.py")

# A part is a class with these methods; its contract is a class of tests, subclassed once per part and naming it.
PARTS: Mapping[str, frozenset[str]] = {
    "SamplerContract": frozenset({"ask", "tell"}),
    "RunnerContract": frozenset({"submit", "next_done", "close"}),
    "EvaluatorContract": frozenset({"evaluate"}),
    "RuntimeContract": frozenset({"template", "load"}),
    "AxisContract": frozenset({"decode", "ladder", "neutral", "extremes"}),
}


@dataclass(frozen=True)
class Import:
    """`module` is imported by `file`, when the file itself is imported or only later, inside a function."""

    file: str
    line: int
    module: str
    deferred: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def imports_of(root: Path, file: Path) -> list[Import]:
    name = file.relative_to(root).as_posix()
    return list(_imports(ast.parse(file.read_text()), name, deferred=False))


def _imports(node: ast.AST, file: str, deferred: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(file, node.lineno, alias.name, deferred) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{file}:{node.lineno}: relative import; write the whole name."
        assert node.module is not None
        yield Import(file, node.lineno, node.module, deferred)
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(node)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, file, deferred or inside)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def sources(root: Path) -> list[Path]:
    return sorted(file for layer in LAYERS for file in (root / layer).rglob("*.py"))


def violations(root: Path) -> list[str]:
    found = [imported for file in sources(root) for imported in imports_of(root, file)]
    return [f"{i.file}:{i.line}: {i.module}: {why}" for i in found if (why := _violation(i)) is not None]


def _violation(imported: Import) -> str | None:
    if imported.package == "paretoformer":
        return "nothing inside imports the public face"
    if imported.package in LAYERS:
        return _layer_violation(imported)
    if imported.package in sys.stdlib_module_names:
        return None
    if imported.package not in LIBRARIES:
        return "a new library; add a row to the table"
    allowed, exceptions = LIBRARIES[imported.package]
    if imported.file.startswith(allowed) and not imported.file.startswith(exceptions):
        return None
    return f"only in {', '.join(allowed)}" + (f" except {', '.join(exceptions)}" if exceptions else "")


def _layer_violation(imported: Import) -> str | None:
    layer = imported.file.partition("/")[0]
    if LAYERS.index(imported.package) > LAYERS.index(layer):
        return f"{layer} is below {imported.package}"
    if layer == "search" and imported.package == "evaluators" and imported.module != "evaluators.base":
        if imported.file not in BUILDERS:
            return f"search sees only evaluators.base; {' and '.join(BUILDERS)} build the rest"
        if not imported.deferred:
            return "only inside the function that needs it"
    return None


def test_every_import_is_allowed() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("spaces/design.py", "import numpy", "only in evaluators/, search/"),
        ("spaces/design.py", "from evaluators.base import Score", "spaces is below evaluators"),
        ("evaluators/base.py", "def f():\n    import torch", "except evaluators/base.py"),
        ("evaluators/anatomy.py", "import search.loop", "evaluators is below search"),
        ("evaluators/runtimes/onnxruntime/graph.py", "import transformers", "except evaluators/base.py"),
        ("evaluators/anatomy.py", "import paretoformer", "nothing inside imports the public face"),
        ("search/loop.py", "def f():\n    from evaluators.anatomy import Anatomy", "search sees only evaluators.base"),
        ("search/cli.py", "import evaluators.anatomy", "only inside the function"),
        ("search/loop.py", "import optuna.samplers", "only in search/samplers/, search/record.py, search/storage.py"),
        ("search/loop.py", "if True:\n    import tensorflow", "add a row to the table"),
    ],
)
def test_a_seeded_violation_is_found(tmp_path: Path, file: str, source: str, message: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (only,) = violations(tmp_path)
    assert only.startswith(f"{file}:")
    assert message in only


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("search/cli.py", "def f():\n    from evaluators.anatomy import Anatomy"),
        ("search/loop.py", "from evaluators.base import Score"),
        ("search/samplers/optuna_bridge.py", "import optuna"),
        ("evaluators/runtimes/torch.py", "import torch.nn"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == []


def test_the_project_declares_exactly_what_it_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["report"]
    declared = {re.split(r"[<>=\[ ]", requirement)[0] for requirement in wanted}
    packages = {imported.package for file in sources(ROOT) for imported in imports_of(ROOT, file)}
    foreign = packages - set(LAYERS) - set(sys.stdlib_module_names)
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} == declared - UNDECLARED_BY_OTHERS


def test_there_are_no_import_cycles() -> None:
    modules = {_module(file): file for file in sources(ROOT)}
    graph = {name: _dependencies(file, modules) - {name} for name, file in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()


def _module(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _dependencies(file: Path, modules: Mapping[str, Path]) -> set[str]:
    """The modules of this project that `file` imports, `from package import module` included."""
    named = {i.module for i in imports_of(ROOT, file) if not i.deferred}
    froms = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    submodules = {f"{node.module}.{alias.name}" for node in froms for alias in node.names if node.module in named}
    return (named | submodules) & set(modules)


@pytest.mark.parametrize("module", ["paretoformer", "search.cli"])
def test_importing_the_face_and_the_command_loads_no_model_library(module: str) -> None:
    heavy = ("torch", "transformers", "datasets", "onnxruntime", "ray", "sklearn", "matplotlib")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    import paretoformer

    assert {name for name in paretoformer.__all__ if not hasattr(paretoformer, name)} == set()


@dataclass(frozen=True)
class Class:
    """A class as written: its name, bases, methods and every name its body mentions."""

    name: str
    bases: frozenset[str]
    methods: frozenset[str]
    mentions: frozenset[str]


def _classes(files: Iterator[Path]) -> list[Class]:
    return [
        Class(
            node.name,
            frozenset(base.id for base in node.bases if isinstance(base, ast.Name)),
            frozenset(child.name for child in node.body if isinstance(child, ast.FunctionDef)),
            frozenset(child.id for child in ast.walk(node) if isinstance(child, ast.Name)),
        )
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    ]


def untested_parts(root: Path) -> list[str]:
    """Parts without a subclass of their contract that names them, and contracts that nothing subclasses."""
    tests = _classes((root / "tests").glob("test_*.py"))
    public = [found for found in _classes(iter(sources(root))) if not found.name.startswith("_")]
    parts = [part for part in public if "Protocol" not in part.bases]
    known = {part.name: part for part in parts}

    def methods_of(part: Class) -> frozenset[str]:
        return part.methods.union(*(methods_of(known[base]) for base in part.bases if base in known))

    missing = []
    for contract, methods in PARTS.items():
        mentions = {name for test in tests if contract in test.bases for name in test.mentions}
        missing += [
            f"{part.name}: no {contract}" for part in parts if methods <= methods_of(part) and part.name not in mentions
        ]
        missing += [] if mentions else [f"{contract} has no subclass"]
    return missing


def test_every_part_has_its_contract_test() -> None:
    assert untested_parts(ROOT) == []


def test_every_contract_is_subclassed() -> None:
    contracts = {
        found.name for found in _classes((ROOT / "tests" / "contracts").glob("*.py")) if "Contract" in found.name
    }
    bases = {base for test in _classes((ROOT / "tests").glob("test_*.py")) for base in test.bases}
    assert contracts >= set(PARTS)
    assert contracts - bases == set()


def test_a_part_without_a_contract_test_is_found(tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "search" / "x.py").write_text("class Walk:\n    def ask(self): ...\n    def tell(self, e): ...\n")
    assert "Walk: no SamplerContract" in untested_parts(tmp_path)
    test = "class TestWalk(SamplerContract):\n    def make(self):\n        return Walk()\n"
    (tmp_path / "tests" / "test_x.py").write_text(test)
    assert "Walk: no SamplerContract" not in untested_parts(tmp_path)
