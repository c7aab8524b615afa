"""What every test may count on: no window opens, no progress bar is drawn, and each engine is opened once a process.

The embedded model comes from the learner's own cache, where `course.py` has put it; no test writes there.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests run side by side, a worker a core: threads of one engine would only wait for each other.
os.environ.setdefault("SLM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import engines_here
import tiny_phi
from engines_here import opened
from helpers import catalog
from helpers.backends import Backend
from helpers.chat import Chat
from helpers.records import ModelCard
from talk import fresh

TESTS = Path(__file__).parent
#: A test is marked by what it asks for.
MARKED = {
    "engine": {"backend", "chat", "llama", "reference", "stand_in", "live"},
    "nightly": {"emulated"},
}
#: Files whose every test opens an engine, a server, a kernel or other processes, or trains.
ENGINE_FILES = {
    *("agents/test_agent.py", "backends/test_mlx.py", "backends/test_onnx_genai.py", "backends/test_openvino.py"),
    *("backends/test_same_model.py", "backends/test_stopping.py", "backends/test_tiny_qwen.py", "models/test_local.py"),
    *("models/test_templates.py", "test_scoring.py", "instruct/test_decoding.py", "instruct/test_speech.py"),
    *("cloud/test_crowd.py", "course/test_execute.py", "engines/test_benchmark.py", "vision/test_documents.py"),
    *("engines/test_qnn.py", "experts/test_mixture.py", "experts/test_paging.py", "experts/test_routing.py"),
    *("instruct/test_coding.py", "instruct/test_evaluate.py", "instruct/test_explorer.py", "instruct/test_offload.py"),
    *("making/test_corpus.py", "making/test_distillation.py", "making/test_finetuning.py", "making/test_training.py"),
    *("reasoning/test_grpo.py", "reasoning/test_losses.py", "reasoning/test_warmup.py"),
    *("reasoning/test_preferences.py", "reasoning/test_runs.py"),
    *("models/test_convert.py", "models/test_engine_files.py", "models/test_wheels.py", "server/test_serve.py"),
    *("vision/test_ocr.py", "vision/test_seeing.py", "vision/test_sight.py", "test_chat_images.py", "test_doctor.py"),
    "test_gpu.py",
}
#: One engine of each kind, which the whole contract runs over; the others keep its shorter part.
KINDS = ("echo", "llamacpp", "transformers", "openai")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def opens_engines(path: Path) -> bool:
    """Whether a file of tests is one of `ENGINE_FILES`."""
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).as_posix() in ENGINE_FILES


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spares the import of files of which nothing would be run."""
    quick = "not engine" in config.getoption("markexpr", "")
    return True if quick and opens_engines(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        wanted = set(getattr(item, "fixturenames", ()))
        if getattr(item, "callspec", None) and item.callspec.params.get("backend") == "echo":
            wanted -= {"backend", "chat"}  # it loads nothing
        for mark, fixtures in MARKED.items():
            if wanted & fixtures:
                item.add_marker(mark)
        if opens_engines(item.path):
            item.add_marker("engine")


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def card() -> ModelCard:
    return catalog.card("smollm2-135m")


@pytest.fixture(scope="module")
def tokenizer(card: ModelCard) -> Any:
    """The smallest model's tokenizer, as transformers opens it."""
    from transformers import AutoTokenizer

    from helpers.models import sources

    return AutoTokenizer.from_pretrained(sources.folder(card))


@pytest.fixture(scope="session", params=KINDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """An engine of each kind, opened; one that is absent here skips with its reason."""
    if request.param != "mlx":
        return opened(request.param).backend
    folder = request.getfixturevalue("phi_folder")  # on a processor MLX is slow with more than that
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLM_HOME", str(folder.parent / "home"))
        return opened("mlx", folder).backend


@pytest.fixture
def chat(backend: Backend) -> Chat:
    """A fresh conversation on each engine, with short answers."""
    return fresh(backend, opened(backend.name).card)


@pytest.fixture(scope="session")
def llama() -> Backend:
    return opened("llamacpp").backend


@pytest.fixture(scope="session")
def reference() -> Backend:
    """transformers, the engine that the others are compared with."""
    return opened("transformers").backend


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A server that fails on purpose, one for each file of tests that asks for it."""
    from faulty_server import running

    with running() as one:
        yield one


@pytest.fixture(scope="session")
def stand_in() -> str:
    """The address of an independent implementation of Ollama's routes, in front of our own server."""
    return engines_here.stand_in_address()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, playwright's own or the system's, driven without a window; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        own = Path(driver.chromium.executable_path).exists()
        found = None if own else next(filter(None, map(shutil.which, BROWSERS)), None)
        if not own and not found:
            pytest.skip(f"no Chromium is here (playwright install chromium), and none of {', '.join(BROWSERS)}")
        with driver.chromium.launch(executable_path=found, args=QUIET) as chromium:
            yield chromium


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """The browser's own `new_page`, whose pages close when the test ends, however it does."""
    pages = list[Any]()

    def opened_page(**options: Any) -> Any:
        pages.append(browser.new_page(**options))
        return pages[-1]

    yield opened_page
    for page in pages:
        page.close()


@pytest.fixture
def dotenv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The place of .env, with no key and no address of a provider set anywhere."""
    from helpers import settings
    from helpers.backends import providers

    monkeypatch.setattr(settings, "DOTENV", tmp_path / ".env")
    for row in providers.providers():
        for variable in filter(None, (row.key_variable, row.address_variable, row.host_variable)):
            monkeypatch.delenv(variable, raising=False)
    return tmp_path / ".env"


@pytest.fixture
def small_home(tmp_path: Path) -> Path:
    """A cache with the smallest model and the encoder alone, which are the learner's own."""
    from helpers.models import files

    home = tmp_path / "home"
    home.mkdir()
    for found in files.home().iterdir():
        if found.name.lower().startswith(("smollm2-135m", "all-minilm-l6-v2")):
            (home / found.name).symlink_to(found, target_is_directory=found.is_dir())
    return home


@pytest.fixture(scope="session")
def phi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Phi of 0.1M parameters that knows two answers."""
    return tiny_phi.saved(tmp_path_factory.mktemp("models") / "tiny-phi-3")
