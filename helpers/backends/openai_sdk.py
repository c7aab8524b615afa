"""The OpenAI SDK, which most providers and servers answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from helpers.backends.faults import broken_line, refusal, unreadable
from helpers.backends.hosted import Hosted, Piece
from helpers.records import Sampling


class Engine(Hosted):
    """One model behind OpenAI's routes."""

    name = "openai"
    package = "openai"
    install = "pip install openai"

    def _connect(self) -> Any:
        import openai

        # The thread that reads ends soon after the call has given up on it.
        timeout = openai.Timeout(self.patience.read_seconds + 1, connect=self.patience.connect_seconds)
        return openai.OpenAI(
            base_url=self.route.address,
            api_key=self.route.key.reveal() if self.route.key else "none needed",
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultHttpxClient(trust_env=not self.route.is_loopback),
        )

    def _chat(self, messages: Sequence[Mapping[str, Any]], sampling: Sampling) -> Generator[Piece, None, None]:
        options = self._options(sampling)
        if sampling.json_schema is not None:
            schema = {"name": "answer", "schema": dict(sampling.json_schema)}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        with self._errors():
            events = self.client.chat.completions.create(
                model=self.model, messages=messages, stream=True, extra_body=self._extras(), **options
            )
            with events:
                self._check_kind(events.response.headers.get("content-type", ""))
                for event in events:
                    yield from _usage(event)
                    for choice in event.choices[:1]:
                        yield Piece(getattr(choice.delta, "content", None) or "", choice.finish_reason)

    def _continue(self, tokens: Sequence[int], sampling: Sampling) -> Generator[Piece, None, None]:
        with self._errors():
            events = self.client.completions.create(
                model=self.model,
                prompt=list(tokens),
                stream=True,
                extra_body=self._extras(),
                **self._options(sampling),
            )
            with events:
                self._check_kind(events.response.headers.get("content-type", ""))
                for event in events:
                    yield from _usage(event)
                    for choice in event.choices[:1]:
                        yield Piece(choice.text or "", choice.finish_reason)

    def _check_kind(self, kind: str) -> None:
        if "event-stream" not in kind:
            raise unreadable(self.route, f"it sent {kind or 'something without a type'} and no stream")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the SDK's errors into the course's. The originals hold the request, so they are not chained."""
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            response = error.response
            raise refusal(self.route, response.status_code, response.headers, response.text, self.model) from None
        except (openai.APIConnectionError, OSError) as error:
            raise broken_line(self.route, error) from None
        except openai.APIError as error:
            raise unreadable(self.route, self.route.quote(error.message)) from None
        except (ValueError, AttributeError, TypeError):
            raise unreadable(self.route, "its JSON is damaged or of another form") from None


def _usage(event: Any) -> Iterator[Piece]:
    if getattr(event, "usage", None):
        yield Piece(prompt_tokens=event.usage.prompt_tokens, new_tokens=event.usage.completion_tokens)
