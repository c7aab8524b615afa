"""Runs notebooks without a browser: `python -m helpers.course.execute [01 03 …] [--save]`.

Each notebook gets a fresh kernel in its own folder. The executed copies and their HTML go to build/notebooks; with
`--save` the outputs are also stored in notebooks/, cleaned so that they hold nothing of this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from helpers.course.outputs import cleaned, plain
from helpers.data import ROOT
from helpers.errors import CourseError, InvalidInput
from helpers.machine import GIB
from helpers.models.files import plain_disk_errors, written_whole

NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build" / "notebooks"
CELL_SECONDS = 900
LARGEST_KIB = 400


@dataclass(frozen=True, slots=True)
class ExecutedNotebook:
    """One executed notebook: what it cost, and its failing cell as text, empty when all is well."""

    stem: str
    notebook: NotebookNode
    seconds: float
    peak_memory_gib: float
    failure: str

    def __str__(self) -> str:
        verdict = "FAILED" if self.failure else "passed"
        return f"{verdict}  {self.seconds:6.1f} s  {self.peak_memory_gib:5.2f} GiB  {self.stem}"


def chosen(names: Sequence[str], folder: Path = NOTEBOOKS) -> list[Path]:
    """The notebooks of these numbers or stems in the order of the course; all of them without a name."""
    paths = sorted(folder.glob("[0-9]*.ipynb"))
    # Tab completion writes backslashes on Windows, and such a path takes both.
    wanted = [PureWindowsPath(name).name.removesuffix(".ipynb").zfill(2) for name in names]
    known = {path.stem: path for path in paths} | {path.stem.partition("_")[0]: path for path in paths}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InvalidInput(
            f"There is no notebook {', '.join(unknown)}.", f"There are: {', '.join(path.stem for path in paths)}."
        )
    return sorted({known[name] for name in wanted}) if names else paths


def execute(path: Path) -> ExecutedNotebook:
    """Executes one notebook in a fresh kernel and samples the memory of the kernel and its children."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    # disable=None: a bar on a terminal only.
    with tqdm(total=len(code), desc=path.stem, unit="cell", leave=False, disable=None) as bar:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],  # its warnings are about the kernel, not the cells
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            coalesce_streams=True,
            on_cell_executed=lambda **_: bar.update(),
        )
        began = time.perf_counter()
        failure, peak = _watch(client)
        seconds = time.perf_counter() - began
    return ExecutedNotebook(path.stem, notebook, seconds, peak, failure)


def _watch(client: NotebookClient) -> tuple[str, float]:
    """Runs the client in a thread and watches its memory here: (failing cell as text, peak in GiB)."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            # A selector loop, since zmq cannot use the default one of Windows.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(client.async_execute(env=dict(os.environ, TQDM_DISABLE="1")))
        except BaseException as error:  # noqa: BLE001 - told or raised in the main thread
            errors.append(error)

    peak, others = 0.0, set(_children())  # what this process started before is not the kernel's
    # Not in the main thread, where nbclient would swallow Ctrl-C.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            peak = max(peak, _gib(set(_children()) - others))
            thread.join(0.05)
    except BaseException:
        _end(set(_children()) - others)
        raise
    if errors and type(errors[0]) is RuntimeError:  # jupyter_client's own, for a kernel that never answered
        raise CourseError(
            f"The notebook's kernel did not start: {errors[0]}.",
            "It is reached over this machine's loopback (127.0.0.1): see that nothing blocks that, and run again.",
        ) from errors[0]
    if errors and not isinstance(errors[0], CellExecutionError | CellTimeoutError | DeadKernelError):
        raise errors[0]
    return (_tell(client.nb, errors[0]) if errors else ""), peak


def _tell(notebook: NotebookNode, error: BaseException) -> str:
    """The failing cell: its source, and its error without colours."""
    ran = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.get("execution_count")]
    raised = [cell for cell in ran if any(output.output_type == "error" for output in cell.outputs)]
    cell = (raised or ran or notebook.cells)[-1]
    if isinstance(error, CellTimeoutError):
        reason = f"The cell ran for more than {CELL_SECONDS} s."
    elif isinstance(error, DeadKernelError):
        reason = "The kernel died, most often because the memory ran out."
        cell = next((c for c in notebook.cells if c.cell_type == "code" and c.source and not c.execution_count), cell)
    else:
        outputs = [output for output in cell.outputs if output.output_type == "error"]
        reason = plain("\n".join(outputs[-1].traceback)) if outputs else plain(str(error))
    source = "\n".join(f"    {line}" for line in cell.source.splitlines())
    return f"{source}\n\n{reason}"


def _children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _gib(processes: Iterable[psutil.Process]) -> float:
    total, own = 0, psutil.Process().cmdline()
    for child in processes:
        try:
            # Between fork and exec a child is a view of this process and shows this process's memory as its own.
            if child.cmdline() != own:
                total += child.memory_info().rss
        except psutil.Error:  # it has just ended
            continue
    return total / GIB


def _end(processes: Iterable[psutil.Process]) -> None:
    for child in processes:
        try:
            child.kill()
        except psutil.Error:
            continue


def keep(result: ExecutedNotebook, folder: Path = BUILD) -> None:
    """Writes the executed copy and its HTML."""
    from nbconvert import HTMLExporter

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.stem}.ipynb").write_text(nbformat.writes(result.notebook) + "\n", encoding="utf-8")
    html, _ = HTMLExporter().from_notebook_node(result.notebook)
    (folder / f"{result.stem}.html").write_text(html, encoding="utf-8")


def store(result: ExecutedNotebook, path: Path) -> None:
    """Stores cleaned outputs in the course's own notebook; refuses what is too large, and touches nothing then."""
    text = nbformat.writes(cleaned(result.notebook, ROOT)) + "\n"
    size = len(text.encode()) / 1024
    if size > LARGEST_KIB:
        raise InvalidInput(
            f"{path.name} would take {size:.0f} KiB, and a notebook may take {LARGEST_KIB}; it was left as it was.",
            "Draw fewer points, or show fewer rows.",
        )
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def run(names: Sequence[str] = (), *, save_outputs: bool = False, folder: Path = NOTEBOOKS, build: Path = BUILD) -> int:
    """Executes notebooks in order and prints what each cost; returns 1 when one failed, 0 otherwise."""
    results = []
    for path in chosen(names, folder):
        result = execute(path)
        results.append(result)
        with plain_disk_errors(build, "the executed copy"):
            keep(result, build)
            if save_outputs and not result.failure:
                store(result, path)
        print(result, flush=True)
        if result.failure:
            print(f"\n{result.failure}\n", flush=True)
    print(f"{len(results)} notebooks in {sum(r.seconds for r in results):.0f} s; copies and HTML are in {build}")
    return 1 if any(result.failure for result in results) else 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helpers.course.execute", description="Run notebooks without a browser."
    )
    parser.add_argument("notebooks", nargs="*", metavar="NUMBER", help="01 03 …; all without one")
    parser.add_argument("--save", action="store_true", help="also store the outputs in notebooks/")
    asked = parser.parse_args(arguments)
    try:
        return run(asked.notebooks, save_outputs=asked.save)
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the notebooks before this one are done and kept.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
