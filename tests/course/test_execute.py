"""Notebooks run without a browser, and what is stored of them holds nothing of this machine."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from helpers.course import execute, outputs
from helpers.errors import CourseError, InvalidInput, NotEnoughDisk
from waiting import until

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, *sources: str) -> Path:
    """A notebook of these code cells below a title."""
    cells = [new_markdown_cell("# Why?"), *map(new_code_cell, sources)]
    path.write_text(nbformat.writes(new_notebook(cells=cells)))
    return path


def stored(*made: Any) -> list[Any]:
    """What `clean` keeps of one cell's outputs."""
    cell = new_code_cell("1", outputs=list(made), execution_count=7)
    return outputs.cleaned(new_notebook(cells=[cell]), ROOT).cells[0].outputs


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three notebooks, of which the second fails, all run once with --save."""
    folder = tmp_path_factory.mktemp("a course")
    write(
        folder / "00_start.ipynb",
        "kept = bytearray(150_000_000); kept[::4096] = b'1' * len(kept[::4096])",
        "import time; time.sleep(0.5); len(kept)",
    )
    write(folder / "01_fails.ipynb", "1 + 1", "{}['absent']", "never = 1")
    write(folder / "02_paths.ipynb", "from pathlib import Path\nprint(Path.cwd().name)")
    return folder


@pytest.fixture(scope="module")
def printed(course: Path) -> str:
    """What the command prints about them."""
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: lines.append(" ".join(map(str, parts))))
        status = execute.run(save_outputs=True, folder=course, build=course / "build")
        return "\n".join([*lines, f"status {status}"])


def test_each_notebook_tells_its_seconds_and_memory(printed: str) -> None:
    assert "passed" in printed.splitlines()[0]
    assert printed.count(" GiB ") == 3
    assert "status 1" in printed


def test_memory_of_the_kernel_is_seen(printed: str) -> None:
    peak = float(printed.splitlines()[0].split()[3])
    assert 0.15 < peak < 1.0


def test_what_runs_beside_the_kernel_is_not_counted_as_its_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "00_start.ipynb", "1")
    holding = "held = bytearray(b'x') * 700 * 2**20; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as beside:
        assert beside.stdout
        beside.stdout.readline()
        peak = execute.execute(path).peak_memory_gib
        beside.kill()
    assert peak < 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows starts a program without a copy of the starter")
def test_a_child_that_is_still_a_copy_of_this_process_counts_nothing() -> None:
    waits, goes_on = os.pipe()
    starter = threading.Thread(
        target=lambda: subprocess.run([sys.executable, "-c", ""], check=True, preexec_fn=lambda: os.read(waits, 1))
    )
    before = set(execute._children())
    starter.start()
    while not (copy := set(execute._children()) - before):
        time.sleep(0.01)
    counted = execute._gib(copy)
    os.write(goes_on, b"x")
    starter.join()
    os.close(waits)
    os.close(goes_on)
    assert counted == 0


def test_a_failing_cell_is_shown_with_its_source_and_error(printed: str) -> None:
    assert "    {}['absent']" in printed
    assert "KeyError: 'absent'" in printed
    assert "\x1b" not in printed


def test_the_copies_are_kept(printed: str, course: Path) -> None:
    assert sorted(p.name for p in (course / "build").iterdir()) == [
        f"{stem}.{kind}" for stem in ("00_start", "01_fails", "02_paths") for kind in ("html", "ipynb")
    ]
    assert "absent" in (course / "build" / "01_fails.html").read_text()


def test_a_plot_is_stored_in_fewer_bytes_and_a_photograph_as_it_is() -> None:
    plot, photograph = Image.new("RGB", (300, 200), "white"), Image.effect_noise((300, 200), 90).convert("RGB")
    photograph.putdata([(n % 256, n // 256 % 256, n % 97) for n in range(300 * 200)])
    for picture, kept in ((plot, False), (photograph, True)):
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1)
        before = base64.b64encode(file.getvalue()).decode()
        after = outputs.smaller(before)
        assert (after == before) is kept
        assert Image.open(io.BytesIO(base64.b64decode(after))).size == (300, 200)


def test_outputs_are_saved_where_all_went_well(printed: str, course: Path) -> None:
    saved = nbformat.read(course / "02_paths.ipynb", as_version=4)
    assert saved.cells[1].outputs[0].text.strip() == course.name
    assert not nbformat.read(course / "01_fails.ipynb", as_version=4).cells[1].outputs


def test_saving_keeps_the_ids(printed: str, course: Path) -> None:
    before = json.loads((course / "build" / "00_start.ipynb").read_text())["cells"]
    after = json.loads((course / "00_start.ipynb").read_text())["cells"]
    assert [cell["id"] for cell in after] == [cell["id"] for cell in before]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], "00 01 02"),
        (["1"], "01"),
        (["02", "00"], "00 02"),
        (["notebooks/01_fails.ipynb"], "01"),
        ([r"notebooks\01_fails.ipynb", r".\notebooks\02_paths.ipynb"], "01 02"),
        ([r"C:\course\notebooks\01_fails.ipynb"], "01"),
        (["2", "02"], "02"),
    ],
)
def test_numbers_and_stems_choose_notebooks_in_order(names: list[str], expected: str, course: Path) -> None:
    assert " ".join(path.stem[:2] for path in execute.chosen(names, course)) == expected


def test_an_unknown_number_gets_the_known_ones(course: Path) -> None:
    with pytest.raises(InvalidInput, match="no notebook 07") as refusal:
        execute.chosen(["7"], course)
    assert "01_fails" in refusal.value.next_step


def test_a_notebook_that_is_too_large_is_refused_and_left(tmp_path: Path) -> None:
    path = write(tmp_path / "00_start.ipynb", "1")
    before = path.read_bytes()
    large = new_notebook(cells=[new_code_cell("1", outputs=[new_output("stream", text="x" * 500_000)])])
    with pytest.raises(InvalidInput, match="400"):
        execute.store(execute.ExecutedNotebook("00_start", large, 1.0, 0.1, ""), path)
    assert path.read_bytes() == before


@pytest.mark.fault("set-up")
def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "00_start.ipynb", "1")
    result = execute.ExecutedNotebook("00_start", new_notebook(), 1.0, 0.1, "")
    monkeypatch.setattr(execute, "execute", lambda _: result)
    monkeypatch.setattr(execute, "keep", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(NotEnoughDisk):
        execute.run(folder=tmp_path, build=tmp_path / "build")


@pytest.mark.fault("set-up")
def test_a_dead_kernel_shows_the_cell_that_killed_it(tmp_path: Path) -> None:
    path = write(tmp_path / "00_start.ipynb", "1", "import os; os._exit(9)")
    failure = execute.execute(path).failure
    assert failure.startswith("    import os; os._exit(9)")
    assert "kernel died" in failure


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child alone")
def test_an_interruption_ends_the_kernel_too(tmp_path: Path) -> None:
    write(tmp_path / "00_start.ipynb", "open('started', 'w').close()\nimport time\ntime.sleep(60)")
    # A shell that starts something in the background lets it, and all below it, ignore this signal.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    program += "from helpers.course import execute as e; from pathlib import Path;"
    program += f"e.run.__kwdefaults__['folder'] = Path({str(tmp_path)!r}); raise SystemExit(e.main([]))"
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        assert until(lambda: (tmp_path / "started").exists() or child.poll() is not None)
        kernels = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(signal.SIGINT)
        assert "Stopped" in child.communicate(timeout=120)[1]
    assert not any(kernel.is_running() for kernel in psutil.wait_procs(kernels, timeout=10)[1])
    assert child.returncode == 130


def test_colours_and_overwritten_lines_are_left_out() -> None:
    assert outputs.plain("\x1b[31mred\x1b[0m\n 10%\r 90%\r100%\nend\r\n") == "red\n100%\nend\n"


def test_stderr_and_widgets_are_left_out() -> None:
    widget = {"text/plain": "IntSlider()", outputs.WIDGET: {"model_id": "1"}}
    assert stored(new_output("stream", name="stderr", text="warning"), new_output("display_data", data=widget)) == []


def test_widget_state_and_timings_are_left_out() -> None:
    notebook = new_notebook(cells=[new_code_cell("1", metadata={"execution": {"a": "b"}, "tags": ["kept"]})])
    notebook.metadata["widgets"] = {"state": {}}
    cleaned = outputs.cleaned(notebook, ROOT)
    assert set(cleaned.metadata) == {"kernelspec", "language_info"}
    assert cleaned.cells[0].metadata == {"tags": ["kept"]}


def test_folders_of_the_machine_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    text = f"{ROOT}/build {sys.prefix}/lib /home/ada/.cache /home/adamant"
    assert outputs.portable(text, ROOT) == "./build env/lib ~/.cache /home/adamant"


@pytest.mark.fault("set-up")
@pytest.mark.parametrize(
    "text",
    [
        r"C:\Users\ada",
        "C:/Users/ada",
        r"C:\\Users\\ada",
        r"c:\users\ADA",
        "C:/Users\\ada",
        "/c/Users/ada",
        "/mnt/c/Users/ada",
        r"\\?\C:\Users\ada",
        "file:///C:/Users/ada",
        "file:///C%3A/Users/ada",
        r"D:\Users\Bob Ross\course",
        r"C:\Users\ADALOV~1\Temp",
    ],
)
def test_a_home_on_windows_is_left_out_however_it_is_written(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path(r"C:\Users\ada"))
    left = outputs.portable(f"see '{text}/x' and {text}", ROOT)
    assert "~" in left
    assert not re.search("users|ada|bob|ross", left, re.IGNORECASE)


def test_a_folder_is_left_out_where_json_an_address_or_html_escapes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/Łu & co"))
    for text in ("/home/Łu & co/x", r"/home/\u0141u & co/x", "/home/%C5%81u%20%26%20co/x", "/home/Łu &amp; co/x"):
        assert outputs.portable(text, ROOT) == "~/x"


def test_a_folder_is_left_out_of_every_kind_of_text() -> None:
    data = {kind: f"{ROOT}/x" for kind in ("text/plain", "text/latex", "image/svg+xml", "text/html")}
    assert set(stored(new_output("display_data", data=data))[0].data.values()) == {"./x"}


def test_tables_and_figures_are_kept() -> None:
    data = {"text/plain": "a\n1", "text/html": "<table></table>", "image/png": "iVBORw0KGgo="}
    assert stored(new_output("display_data", data=data))[0].data == data


def test_a_picture_is_stored_in_one_format() -> None:
    data = {"image/png": "iVBORw0KGgo=", "image/jpeg": "the same once more"}
    assert list(stored(new_output("display_data", data=data))[0].data) == ["image/png"]


def test_an_address_of_an_object_is_left_out() -> None:
    assert stored(new_output("execute_result", data={"text/plain": "<X at 0x7f3a5c0d1e20>"}))[0].data == {
        "text/plain": "<X at 0x…>"
    }


def test_counts_run_from_one_and_skip_empty_cells() -> None:
    cells = [new_code_cell("a", execution_count=9), new_code_cell("  "), new_code_cell("b", execution_count=12)]
    cleaned = outputs.cleaned(new_notebook(cells=cells), ROOT)
    assert [cell.execution_count for cell in cleaned.cells] == [1, None, 2]


def test_what_a_cell_says_of_its_picture_is_stored_with_the_picture() -> None:
    shown = [new_output("display_data", data={"image/png": "iVBORw0KGgo="}), new_output("stream", text="x")]
    cell = new_code_cell("draw()", outputs=shown, metadata={"alt": "A line that rises.", "jupyter": {}})
    cleaned = outputs.cleaned(new_notebook(cells=[cell]), ROOT).cells[0]
    assert cleaned.metadata == {"alt": "A line that rises."}
    assert cleaned.outputs[0].metadata["image/png"] == {"alt": "A line that rises."}


def test_cleaning_twice_changes_nothing_and_leaves_the_original() -> None:
    notebook = new_notebook(cells=[new_code_cell("1", outputs=[new_output("stream", text=f"{ROOT}\x1b[0m")])])
    once = outputs.cleaned(notebook, ROOT)
    assert outputs.cleaned(once, ROOT) == once
    assert str(ROOT) in notebook.cells[0].outputs[0].text


@pytest.mark.fault("set-up")
def test_a_kernel_that_never_answers_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(*_: object, **__: object) -> None:
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr(execute.NotebookClient, "async_execute", silent)
    write(tmp_path / "00_one.ipynb", "1")
    with pytest.raises(CourseError, match="kernel did not start"):
        execute.run(folder=tmp_path, build=tmp_path / "build")
