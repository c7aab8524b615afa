"""A chat box in the notebook: the answer comes word by word and can be stopped.

A widget lives as long as its kernel, and a page on the web shows none. So `chat_box` first displays the conversation
so far as plain HTML, which is stored with the notebook, and then the box to go on with it, which is not.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from html import escape

from helpers.chat import Chat, Stream
from helpers.records import Reply, Turn

#: A page sends what was typed last only when the kernel has taken what came before it, so after the key that ends it.
SETTLED_SECONDS = 0.2


def transcript(turns: Sequence[Turn], note: str = "") -> str:
    """A conversation as HTML: every text escaped, so that what a model writes is shown and never run."""
    shades = {"system": "#EEEEEE", "user": "#D9ECF7", "assistant": "#E4F3EC"}
    rows = [
        f'<div style="background:{shades[turn.role]};color:#111;border-radius:6px;padding:4px 8px;margin:3px 0;'
        f'white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4"><b>{turn.role}</b>&ensp;{escape(turn.text)}</div>'
        for turn in turns
    ]
    return "".join(rows) + (f'<div style="color:#666;font-size:85%">{escape(note)}</div>' if note else "")


class ChatBox:
    """A chat box on an opened chat: `widget` is what a notebook shows, `ask` and `stop` what its buttons do.

    The answer is written by a thread of its own, since a cell that waits for it could not hear the stop button.
    While it writes, leave the chat to the box.
    """

    def __init__(self, chat: Chat) -> None:
        import ipywidgets

        self.chat = chat
        self._stopping = threading.Event()
        self._stream: Stream | None = None
        self._thread: threading.Thread | None = None
        self._typed: threading.Timer | None = None
        self._page = ipywidgets.HTML(layout=ipywidgets.Layout(width="100%"))
        frame = ipywidgets.Layout(height="300px", overflow="auto", border="1px solid #CCCCCC", padding="4px")
        frame.flex_flow = "column-reverse"  # what a browser scrolls from its end, so the newest words stay in view
        self.text = ipywidgets.Text(placeholder="Write to the model, then press Enter", layout={"width": "60%"})
        self.send, self.stop_button, self.clear = (
            ipywidgets.Button(description=name, layout={"width": "6em"}) for name in ("Send", "Stop", "Clear")
        )
        self.text.on_msg(self._entered)
        self.send.on_click(lambda _: self._read())
        self.stop_button.on_click(lambda _: self._halt())
        self.clear.on_click(lambda _: self.forget())
        buttons = ipywidgets.HBox([self.text, self.send, self.stop_button, self.clear])
        self.widget = ipywidgets.VBox([ipywidgets.VBox([self._page], layout=frame), buttons])
        self._before = len(chat.history)  # shown by others already
        self._show(chat.history)
        self._writes(False)

    @property
    def page(self) -> str:
        """The conversation as the box shows it now, as HTML."""
        return str(self._page.value)

    def ask(self, question: str) -> None:
        """Starts to answer; does nothing on an empty question or while an answer is being written."""
        if not question.strip() or (self._thread is not None and self._thread.is_alive()):
            return
        self._stopping.clear()
        self._stream = None
        self._writes(True)
        self._thread = threading.Thread(target=self._answer, args=(question,), daemon=True)
        self._thread.start()
        self.text.value = ""

    def stop(self) -> None:
        """Ends the answer, also while the question is still being read; what came until then stays."""
        self._stopping.set()
        if self._stream is not None:
            self._stream.cancel()

    def forget(self) -> None:
        """Stops, and empties the conversation; the system message stays."""
        self.stop()
        self.wait()
        self.chat.reset()
        self._before = len(self.chat.history)
        self._show(self.chat.history)

    def wait(self, seconds: float | None = None) -> None:
        """Blocks until the answer is written."""
        if self._typed is not None:
            self._typed.join(seconds)
        if self._thread is not None:
            self._thread.join(seconds)

    def _entered(self, _: object, content: Mapping[str, object], __: object) -> None:
        if content.get("event") == "submit":  # what a text field sends when Enter is pressed
            self._read()

    def _read(self) -> None:
        """Asks what is typed. A button that goes grey loses the keyboard, so this is where it goes on."""
        self.text.focus()
        self._typed = threading.Timer(SETTLED_SECONDS, lambda: self.ask(self.text.value))
        self._typed.daemon = True
        self._typed.start()

    def _halt(self) -> None:
        self.stop()
        self.text.focus()

    def _answer(self, question: str) -> None:
        before = [*self.chat.history, Turn("user", question)]
        try:
            self._show(before, "reading …")
            self._stream = stream = self.chat.stream(question)
            if self._stopping.is_set():  # pressed while the question was cut into tokens
                stream.cancel()
            text = ""
            for piece in stream:
                text += piece
                self._show([*before, Turn("assistant", text)], "writing …")
            assert stream.reply is not None
            self._before = max(0, self._before - stream.reply.dropped_turns)
            self._show(self.chat.history, _cost(stream.reply))
        except Exception as error:  # noqa: BLE001 - a thread has nobody else to tell
            self._show(self.chat.history, str(error))
        finally:
            self._writes(False)

    def _show(self, turns: Sequence[Turn], note: str = "") -> None:
        self._page.value = transcript(turns[self._before :], note)

    def _writes(self, busy: bool) -> None:
        self.send.disabled, self.stop_button.disabled = busy, not busy


def chat_box(chat: Chat) -> ChatBox:
    """Displays the conversation so far, which is stored with the notebook, and then the box to go on with it."""
    from IPython.display import HTML, display

    box = ChatBox(chat)
    if chat.history:
        display(HTML(transcript(chat.history)))
    display(box.widget)
    return box


def _cost(reply: Reply) -> str:
    rate = f", {reply.decode_tokens_per_second:.0f} tokens/s" if reply.decode_tokens_per_second else ""
    return f"{reply.prompt_tokens} tokens read, {reply.new_tokens} written{rate}, ended by: {reply.finish_reason}"
