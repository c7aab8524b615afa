"""The shape of the repository: stems, levels, budgets, pins, links."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from packaging.requirements import Requirement

import course

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HELPERS = sorted((ROOT / "helpers").rglob("*.py"))
CODE = [ROOT / "course.py", *(p for d in ("helpers", "solutions", "benchmarks") for p in (ROOT / d).rglob("*.py"))]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "lessons").glob("*.md"), *NOTEBOOKS]

#: A module imports its own level or a lower one, and nothing in a circle.
LEVELS = {
    0: {"errors", "records", "background", "outputs", "watchdog"},
    1: {
        "catalog",
        "machine",
        "checks",
        "plots",
        "templates",
        "files",
        "images",
        "documents",
        "distortions",
        "local",
        "rates",
        "stopping",
        "metrics",
        "tasks",
        "corpus",
        "bpe",
        "dates",
        "decoding",
        "routing_plots",
        "speech",
        "costs",
        "routes",
        "limits",
        "easyvqa",
        "mini_vision",
        "tools",
        "steps",
    },
    2: {
        "weights",
        "conversion",
        "engine_files",
        "hub",
        "anatomy",
        "faults",
        "remote",
        "providers",
        "guests",
        "messages",
        "slots",
        "checkpoints",
        "training",
        "live",
        "export",
        "explorer",
        "quantization",
        "mixture",
        "routing",
        "paging",
        "sight",
        "seeing",
        "mlx_weights",
        "ollama_models",
        "modelfile",
        "edge",
        "reports",
    },
    3: {"backends", "gate", "serve", "ocr", "finetuning", "distillation", "speculation"},
    4: {"answer", "chat", "scoring", "transcription"},
    5: {
        "measure",
        "compare",
        "offload",
        "chatbox",
        "faq",
        "costs",
        "crowd",
        "video",
        "document_qa",
        "toolbox",
        "examples",
        "agent",
        "toolscore",
        "agreement",
        "trial",
        "sweeps",
        "qdq",
        "qnn",
    },
    6: {"doctor", "execute", "evaluate", "benchmark"},
}
HEAVY = ("torch", "transformers", "xllamacpp", "pandas", "matplotlib", "openai")
LARGEST_KIB = 400
MACHINE_PATHS = re.compile(r"/home/\w|/root/|/Users/\w|[A-Z]:\\\\?Users|/tmp/\w|/site-packages/|/workspaces/")
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
each_helper = pytest.mark.parametrize("path", HELPERS, ids=lambda path: path.relative_to(ROOT / "helpers").as_posix())


def cells(path: Path, kind: str) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


def code_of(path: Path) -> str:
    """The Python in a file; in a notebook, without its magics."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    return "\n".join(re.sub(r"(?m)^\s*[%!].*$", "pass", cell.source) for cell in cells(path, "code"))


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Each imported module as its parts; a name imported from a package counts as its module."""
    for node in ast.walk(ast.parse(code_of(path))):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((*node.module.split("."), alias.name) for alias in node.names)


def neighbours(path: Path) -> set[str]:
    """The modules of helpers that a file of helpers imports."""
    return {parts[1] for parts in imports(path) if parts[0] == "helpers" and len(parts) > 1}


def level(module: str) -> int:
    return next(number for number, modules in LEVELS.items() if module in modules)


def module_of(path: Path) -> str:
    return path.relative_to(ROOT / "helpers").parts[0].removesuffix(".py")


def requirements(name: str) -> dict[str, str]:
    """Distribution → version of a requirements file."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


def as_distribution(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# Lessons, notebooks, solutions


def test_every_lesson_has_its_notebook_and_every_notebook_its_lesson() -> None:
    lessons = {path.stem for path in (ROOT / "lessons").glob("[0-9]*.md")}
    assert lessons == {path.stem for path in NOTEBOOKS}


def test_every_solution_belongs_to_a_notebook() -> None:
    assert {path.stem for path in (ROOT / "solutions").glob("[0-9]*.py")} <= {path.stem for path in NOTEBOOKS}


@each_notebook
def test_a_notebook_with_exercises_has_solutions(path: Path) -> None:
    exercises = [cell for cell in cells(path, "markdown") if re.search(r"(?m)^#+ .*\bExercise\b", cell.source)]
    assert not exercises or (ROOT / "solutions" / f"{path.stem}.py").exists()


def test_the_readme_lists_every_notebook() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README yet")
    text = readme.read_text(encoding="utf-8")
    assert [path.stem for path in NOTEBOOKS if path.stem not in text] == []
    assert {stem for stem in re.findall(r"notebooks/(\w+)\.ipynb", text)} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        text = "\n".join(cell.source for cell in cells(page, "markdown"))
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    targets = re.findall(r"\]\(<?([^)>#\s]+)", text) + re.findall(r"""(?:src|href)=["']([^"'#]+)""", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


# Notebook budgets


@each_notebook
def test_a_notebook_is_small_and_has_no_widgets(path: Path) -> None:
    assert path.stat().st_size <= LARGEST_KIB * 1024
    assert "widgets" not in nbformat.read(path, as_version=4).metadata
    assert "widget-view+json" not in path.read_text(encoding="utf-8")


@each_notebook
def test_a_notebook_was_run_from_top_to_bottom_without_an_error(path: Path) -> None:
    code = [cell for cell in cells(path, "code") if cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    expected = [cell for cell in code if "raises-exception" in cell.metadata.get("tags", [])]
    raised = [cell for cell in code if any(output.output_type == "error" for output in cell.outputs)]
    assert raised == expected


@each_notebook
def test_stored_outputs_hold_nothing_of_a_machine(path: Path) -> None:
    outputs = [output for cell in cells(path, "code") for output in cell.outputs]
    text = json.dumps([{k: v for k, v in o.get("data", o).items() if not k.startswith("image/")} for o in outputs])
    assert MACHINE_PATHS.findall(text) == []
    assert "\\u001b" not in text
    assert not [output for output in outputs if output.get("name") == "stderr"]


@each_notebook
def test_words_and_code_are_in_balance(path: Path) -> None:
    words, code = cells(path, "markdown"), [lines(cell.source) for cell in cells(path, "code")]
    assert 0.45 <= len(words) / (len(words) + len(code)) <= 0.65
    assert statistics.median(code) <= 6
    assert max(code) <= 25


@each_notebook
def test_a_notebook_asks_a_question_and_its_cells_have_ids(path: Path) -> None:
    title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
    assert re.fullmatch(r"# .+\?", title)
    ids = [cell.get("id") for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert None not in ids
    assert len(set(ids)) == len(ids)


# Modules


@each_helper
def test_a_module_has_a_level_and_imports_no_higher_one(path: Path) -> None:
    if path.name == "__init__.py" and path.parent.name == "helpers":
        assert neighbours(path) == set()
        return
    own = level(module_of(path))
    assert {name for name in neighbours(path) if level(name) > own} == set()


def test_no_import_runs_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in HELPERS:
        graph.setdefault(module_of(path), set()).update(neighbours(path) - {module_of(path)})
    while leaves := {name for name, wanted in graph.items() if not wanted & graph.keys()}:
        graph = {name: wanted for name, wanted in graph.items() if name not in leaves}
    assert graph == {}


def test_importing_the_helpers_imports_nothing_heavy() -> None:
    modules = ["helpers", "helpers.chat", "helpers.backends", "helpers.catalog", "helpers.weights", "helpers.doctor"]
    program = f"import sys, {', '.join(modules)}; helpers.backends.engines(); print(*(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@each_helper
def test_modules_and_functions_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 250
    assert long_functions(source) == []


def test_the_entry_points_functions_are_short() -> None:
    assert long_functions(Path(course.__file__).read_text(encoding="utf-8")) == []


def long_functions(source: str) -> list[str]:
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 40]


@pytest.mark.parametrize("path", [*CODE, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nobody_elses_code_is_run_from_a_hub(path: Path) -> None:
    keywords = [node for node in ast.walk(ast.parse(code_of(path))) if isinstance(node, ast.keyword)]
    trusting = [k for k in keywords if k.arg == "trust_remote_code"]
    assert all(isinstance(k.value, ast.Constant) and k.value.value is False for k in trusting)


# Packages


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-engines.txt"])
def test_every_requirement_is_pinned_and_says_why(name: str) -> None:
    wanted = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert [line for line in wanted if not re.fullmatch(r"[\w.-]+==[\w.]+( ; [^#]+)? +# .+", line)] == []


def test_what_is_imported_is_required() -> None:
    known = importlib.metadata.packages_distributions()
    files = ("requirements.txt", "requirements-engines.txt")
    required = {as_distribution(name) for file in files for name in requirements(file)}
    own = sys.stdlib_module_names | {"helpers", "solutions", "course", "benchmarks", "training", "__future__"}
    wanted = {parts[0] for path in [*CODE, *NOTEBOOKS] for parts in imports(path)} - own
    missing = {name for name in wanted if not required & {as_distribution(d) for d in known.get(name, [name])}}
    assert missing == set()


def test_what_is_installed_is_what_is_pinned() -> None:
    pins = requirements("requirements.txt") | requirements("requirements-dev.txt") | engines_for_this_system()
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in pins}
    assert installed == pins


def engines_for_this_system() -> dict[str, str]:
    """The pins of the engines that exist for this system; none where the engines were not asked for."""
    text = (ROOT / "requirements-engines.txt").read_text(encoding="utf-8")
    lines = [line.partition("#")[0] for line in text.splitlines() if line and line[0] != "#"]
    known = {as_distribution(distribution.name) for distribution in importlib.metadata.distributions()}
    wanted = [found for found in map(Requirement, lines) if not found.marker or found.marker.evaluate()]
    asked_for = platform.system() == "Linux" or any(as_distribution(found.name) in known for found in wanted)
    return {found.name: str(found.specifier)[2:] for found in wanted} if asked_for else {}


def test_every_engine_file_exists_for_some_system_that_the_course_serves() -> None:
    systems = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64"), ("win32", "AMD64")]
    text = (ROOT / "requirements-engines.txt").read_text(encoding="utf-8")
    lines = [line.partition("#")[0] for line in text.splitlines() if line and line[0] != "#"]
    for found in map(Requirement, lines):
        there = [{"sys_platform": s, "platform_machine": m} for s, m in systems]
        assert found.marker is None or any(found.marker.evaluate(place) for place in there)


@pytest.mark.skipif(
    platform.system() != "Linux" or sys.version_info[:2] != (3, 11) or course.has_nvidia(),
    reason="a CPU build is looked for on Linux without an NVIDIA GPU, and sure to be there for Python 3.11",
)
def test_without_a_gpu_no_cuda_packages_are_installed() -> None:
    assert importlib.metadata.version("torch").endswith("+cpu")
    assert not [d for d in importlib.metadata.distributions() if d.name.startswith("nvidia-c")]


# Continuous integration


def test_ci_calls_the_learners_own_command() -> None:
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text().splitlines() if line and line[0] != "#"]
    assert commands[-1] == "exec python3 course.py test"
    assert os.name == "nt" or os.access(script, os.X_OK)
    assert "course.py test" in (ROOT / ".github" / "workflows" / "test.yml").read_text()
