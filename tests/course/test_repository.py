"""The shape of the repository: stems, rooms, budgets, pins, links. One case a rule; a failure names the files."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from packaging.requirements import Requirement

import course
import helpers
from helpers.course.lock import LAYERS

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HELPERS = sorted((ROOT / "helpers").rglob("*.py"))
CODE = [ROOT / "course.py", *(p for d in ("helpers", "solutions", "benchmarks") for p in (ROOT / d).rglob("*.py"))]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "lessons").glob("*.md"), *NOTEBOOKS]

HEAVY = ("torch", "transformers", "xllamacpp", "pandas", "matplotlib", "openai", "PIL", "numpy")
LARGEST_KIB, MEDIAN_LINES, LONGEST_LINES, IMPORT_LINES, WIDEST = 400, 6, 20, 8, 88
#: What every engine's module defines, for `open_chat`, and what `python -m` calls.
CONVENTIONS = {"Engine", "main"}
MACHINE_PATHS = re.compile(r"/home/\w|/root/|/Users/\w|[A-Z]:\\\\?Users|/tmp/\w|/site-packages/|/workspaces/")


@cache
def book_of(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def cells(path: Path, kind: str) -> list[Any]:
    return [cell for cell in book_of(path).cells if cell.cell_type == kind]


def found_in(paths: Iterable[Path], look: Callable[[Path], Any]) -> dict[str, Any]:
    """What `look` finds, by file; files in which it finds nothing are left out."""
    return {path.relative_to(ROOT).as_posix(): what for path in paths if (what := look(path))}


def lines(source: str) -> int:
    return sum(bool(line.strip()) for line in source.splitlines())


def code_of(path: Path) -> str:
    """The Python in a file; in a notebook, without its magics."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    return "\n".join(re.sub(r"(?m)^\s*[%!].*$", "pass", cell.source) for cell in cells(path, "code"))


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    """Every node of a file's code."""
    return list(ast.walk(ast.parse(code_of(path))))


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Each imported module as its parts; a name imported from a package counts as its module."""
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((*node.module.split("."), alias.name) for alias in node.names)


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


def test_no_two_files_of_tests_share_a_name() -> None:
    """Pytest imports a file of tests by its name alone: of two that are named alike it refuses the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_a_notebook_with_exercises_has_solutions() -> None:
    def lacks(path: Path) -> str:
        exercises = [cell for cell in cells(path, "markdown") if re.search(r"(?m)^#+ .*\bExercise\b", cell.source)]
        return "no solutions" if exercises and not (ROOT / "solutions" / f"{path.stem}.py").exists() else ""

    assert found_in(NOTEBOOKS, lacks) == {}


def test_the_readme_lists_every_notebook() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.stem for path in NOTEBOOKS if path.stem not in text] == []
    assert {stem for stem in re.findall(r"notebooks/(\w+)\.ipynb", text)} <= {path.stem for path in NOTEBOOKS}


def test_links_within_the_repository_lead_somewhere() -> None:
    def broken(page: Path) -> list[str]:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".ipynb":
            text = "\n".join(cell.source for cell in cells(page, "markdown"))
        text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        targets = re.findall(r"\]\(<?([^)>#\s]+)", text) + re.findall(r"""(?:src|href)=["']([^"'#]+)""", text)
        local = [target for target in targets if not re.match(r"[a-z]+:", target)]
        return [target for target in local if not (page.parent / target).exists()]

    assert found_in(PAGES, broken) == {}


# Notebook budgets


def test_a_notebook_is_small_and_has_no_widgets() -> None:
    def too_much(path: Path) -> str:
        if path.stat().st_size > LARGEST_KIB * 1024:
            return f"{path.stat().st_size // 1024} KiB"
        state = "widgets" in book_of(path).metadata
        return "widget state" if state or "widget-view+json" in path.read_text(encoding="utf-8") else ""

    assert found_in(NOTEBOOKS, too_much) == {}


def test_a_notebook_was_run_from_top_to_bottom_without_an_error() -> None:
    def unlike(path: Path) -> str:
        code = [cell for cell in cells(path, "code") if cell.source.strip()]
        if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
            return "was not run from top to bottom"
        expected = [cell for cell in code if "raises-exception" in cell.metadata.get("tags", [])]
        raised = [cell for cell in code if any(output.output_type == "error" for output in cell.outputs)]
        return "" if raised == expected else "stores an error"

    assert found_in(NOTEBOOKS, unlike) == {}


def test_stored_outputs_hold_nothing_of_a_machine() -> None:
    def leaks(path: Path) -> list[str]:
        outputs = [output for cell in cells(path, "code") for output in cell.outputs]
        text = json.dumps([{k: v for k, v in o.get("data", o).items() if not k.startswith("image/")} for o in outputs])
        loud = ["stderr"] if any(output.get("name") == "stderr" for output in outputs) else []
        return [*MACHINE_PATHS.findall(text), *re.findall(r"\\u001b", text), *loud]

    assert found_in(NOTEBOOKS, leaks) == {}


def test_words_and_code_are_in_balance() -> None:
    def unbalanced(path: Path) -> str:
        words, code = cells(path, "markdown"), [lines(cell.source) for cell in cells(path, "code")]
        share = len(words) / (len(words) + len(code))
        fine = 0.45 <= share <= 0.65 and statistics.median(code) <= MEDIAN_LINES and max(code) <= LONGEST_LINES
        widest = max(len(line) for cell in cells(path, "code") for line in cell.source.splitlines())
        told = f"{share:.0%} text, cells of {statistics.median(code)} lines, the longest {max(code)}"
        return "" if fine and widest <= WIDEST else f"{told}, a line of {widest} characters"

    assert found_in(NOTEBOOKS, unbalanced) == {}


def test_imports_stand_in_one_short_cell() -> None:
    """A later cell may import the library that it shows, and nothing of ours."""

    def wrong(path: Path) -> str:
        first, *later = [ast.parse(re.sub(r"(?m)^\s*[%!].*$", "pass", c.source)) for c in cells(path, "code")]
        found = [node for node in first.body if isinstance(node, ast.Import | ast.ImportFrom)]
        count = sum((node.end_lineno or 0) - node.lineno + 1 for node in found)
        late = [n for tree in later for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module]
        ours = [n.module for n in late if n.module and n.module.startswith("helpers")]
        return "" if 1 <= count <= IMPORT_LINES and not ours else f"{count} lines of imports, later ones of {ours}"

    assert found_in(NOTEBOOKS, wrong) == {}


def test_a_name_means_one_thing_in_a_page() -> None:
    """What only holds a drawing or a check's cases may come again."""
    again = {"ax", "left", "right", "style", "cases", "_"}

    def bound_twice(path: Path) -> list[str]:
        trees = [ast.parse(re.sub(r"(?m)^\s*[%!].*$", "pass", cell.source)) for cell in cells(path, "code")]
        bound = [name for tree in trees for name in bindings(tree)]
        return sorted({name for name in bound if bound.count(name) > 1} - again)

    assert found_in(NOTEBOOKS, bound_twice) == {}


def bindings(tree: ast.Module) -> set[str]:
    """The names that a cell itself assigns: not those of its functions and loops."""
    targets = [target for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]
    found = [node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return {node.id for node in found if isinstance(node.ctx, ast.Store)}


def test_markers_are_tags_and_no_line_of_a_learners_code() -> None:
    assert found_in(NOTEBOOKS, lambda path: re.findall(r"(?mi)^\s*# *nbval[-\w]*", code_of(path))) == {}


def test_no_cell_reaches_a_file_by_a_path_from_its_own_folder() -> None:
    """A page's translation lies one folder deeper: `data.FOLDER` is the same from everywhere."""
    assert found_in(NOTEBOOKS, lambda path: re.findall(r"""["']\.\./[^"']*""", code_of(path))) == {}


def test_every_stored_picture_is_told_in_a_sentence() -> None:
    def silent(path: Path) -> list[str]:
        pictures = [(cell, o) for cell in cells(path, "code") for o in cell.outputs if "image/png" in o.get("data", {})]
        alts = [(cell.id, o.metadata.get("image/png", {}).get("alt", "")) for cell, o in pictures]
        return [cell for cell, alt in alts if len(alt.split()) < 6]

    assert found_in(NOTEBOOKS, silent) == {}


def test_a_notebook_asks_a_question_and_its_cells_have_ids() -> None:
    def wrong(path: Path) -> str:
        book = book_of(path)
        ids = [cell.get("id") for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
        asks = re.fullmatch(r"# .+\?", book.cells[0].source.splitlines()[0])
        return "" if asks and None not in ids and len(set(ids)) == len(ids) else "no question, or cells without ids"

    assert found_in(NOTEBOOKS, wrong) == {}


# Modules


def test_importing_the_helpers_imports_nothing_heavy() -> None:
    modules = [f"helpers.{name}" for name in ("chat", "backends", "catalog", "models.sources", "doctor", "images")]
    program = f"import sys, {', '.join(modules)}; helpers.backends.engines(); print(*(set({HEAVY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_house_is_told_whole() -> None:
    """The package's docstring names every module of the front and every room, the README every room."""
    front = {path.stem for path in (ROOT / "helpers").glob("*.py")} - {"__init__"}
    rooms = {path.parent.name + "/" for path in (ROOT / "helpers").glob("*/__init__.py")}
    told = set(re.findall(r"[a-z]+/?", helpers.__doc__ or ""))
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Where things are")[2]
    assert (front | rooms) - told == set()
    assert {room for room in rooms if f"\n  {room} " not in tree} == set()


def test_a_planted_import_breaks_the_rooms_contracts(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "helpers", tmp_path / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "helpers" / "making" / "bpe.py").open("a", encoding="utf-8") as file:
        file.write("\nfrom helpers.vision import video\n")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "helpers.making is not allowed to import helpers.vision" in done.stdout


def test_functions_fit_on_a_screen() -> None:
    assert found_in([*HELPERS, Path(course.__file__)], long_functions) == {}


def long_functions(path: Path) -> list[str]:
    functions = [n for n in nodes_of(path) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 40]


def test_every_public_name_stands_once() -> None:
    """Whoever reads it knows which one is meant."""
    assert twice(ROOT / "helpers") == {}


def test_a_name_that_stands_twice_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("def table(): ...\n")
    (tmp_path / "two.py").write_text("class Other: ...\ntable = {}\n")
    assert twice(tmp_path) == {"table": ["one.py", "two.py"]}


def public_names(path: Path) -> list[str]:
    names = []
    for node in ast.parse(code_of(path)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [target.id for target in targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


def twice(folder: Path) -> dict[str, list[str]]:
    where = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for name in public_names(path):
            where[name].append(path.relative_to(folder).as_posix())
    return {name: found for name, found in where.items() if len(found) > 1 and name not in CONVENTIONS}


def test_nobody_elses_code_is_run_from_a_hub() -> None:
    def trusts(path: Path) -> list[int]:
        keywords = [node for node in nodes_of(path) if isinstance(node, ast.keyword)]
        asked = [k for k in keywords if k.arg == "trust_remote_code"]
        return [k.value.lineno for k in asked if not (isinstance(k.value, ast.Constant) and k.value.value is False)]

    assert found_in([*CODE, *NOTEBOOKS], trusts) == {}


def test_what_another_process_says_is_read_as_utf8_whatever_it_holds() -> None:
    def unsure(path: Path) -> list[int]:
        calls = [node for node in nodes_of(path) if isinstance(node, ast.Call)]
        words = {call.lineno: {k.arg: k.value for k in call.keywords} for call in calls if is_process(call)}
        decoded = {
            line: given for line, given in words.items() if {"text", "encoding", "universal_newlines"} & set(given)
        }
        return [line for line, given in decoded.items() if not {"encoding", "errors"} <= set(given)]

    assert found_in(CODE, unsure) == {}


def is_process(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    return name in ("run", "Popen", "check_output", "getoutput")


# Packages


@pytest.mark.parametrize("name", [*LAYERS, "deploy/hub/requirements.txt", "deploy/grading/requirements.txt"])
def test_every_requirement_is_pinned_and_says_why(name: str) -> None:
    wanted = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    assert [line for line in wanted if not re.fullmatch(r"[\w.-]+==[\w.]+( ; [^#]+)? +# .+", line)] == []


def test_what_is_imported_is_required() -> None:
    known = importlib.metadata.packages_distributions()
    files = ("requirements.txt", "requirements-engines.txt", "deploy/hub/requirements.txt")
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
