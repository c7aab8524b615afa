"""The Azure AI Inference SDK: deprecated, and still spoken by many endpoints and by any server with the same routes."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from helpers.backends.faults import broken_line, refusal, unreadable
from helpers.backends.hosted import Hosted, Piece
from helpers.records import Sampling


class Engine(Hosted):
    """One model behind the routes of Azure's model inference API."""

    name = "azure-ai-inference"
    package = "azure-ai-inference"
    install = "pip install azure-ai-inference"

    @classmethod
    def missing(cls) -> str | None:
        return None if cls.version() else f"the package {cls.package} is not installed: {cls.install}"

    def _connect(self) -> Any:
        from azure.ai.inference import ChatCompletionsClient
        from azure.core.credentials import AzureKeyCredential
        from azure.core.pipeline.transport import RequestsTransport

        return ChatCompletionsClient(
            endpoint=self.route.address,
            credential=AzureKeyCredential(self.route.key.reveal() if self.route.key else "none needed"),
            retry_total=0,
            connection_timeout=self.patience.connect_seconds,
            # The thread that reads ends soon after the call has given up on it.
            read_timeout=self.patience.read_seconds + 1,
            transport=RequestsTransport(use_env_settings=not self.route.is_loopback),
        )

    def _chat(self, messages: Sequence[Mapping[str, Any]], sampling: Sampling) -> Generator[Piece, None, None]:
        options = self._options(sampling)
        if sampling.json_schema is not None:
            from azure.ai.inference.models import JsonSchemaFormat

            options["response_format"] = JsonSchemaFormat(name="answer", schema=dict(sampling.json_schema))
        with self._errors():
            events = self.client.complete(
                model=self.model,
                messages=list(messages),
                stream=True,
                model_extras=self._extras(),
                raw_response_hook=self._check_kind,
                **options,
            )
            with closing(events):
                for event in events:
                    if event.usage:
                        yield Piece("", None, event.usage.prompt_tokens, event.usage.completion_tokens)
                    for choice in (event.choices or [])[:1]:
                        finish = choice.finish_reason
                        yield Piece(choice.delta.content or "", finish and str(getattr(finish, "value", finish)))

    def _continue(self, tokens: Sequence[int], sampling: Sampling) -> Generator[Piece, None, None]:
        from azure.core.rest import HttpRequest

        body = {"model": self.model, "prompt": list(tokens), "stream": True}
        # The SDK has no call for this route, but it sends any request of ours with its key and its errors.
        request = HttpRequest("POST", "/completions", json=body | self._options(sampling) | self._extras())
        with self._errors(), self.client.send_request(request, stream=True) as response:
            if response.status_code != 200:
                response.read()
                response.raise_for_status()
            for event in _events(response.iter_raw()):
                usage = event.get("usage") or {}
                yield Piece("", None, usage.get("prompt_tokens"), usage.get("completion_tokens"))
                for choice in event["choices"][:1]:
                    yield Piece(choice["text"], choice["finish_reason"])

    def _check_kind(self, response: Any) -> None:
        kind = response.http_response.headers.get("Content-Type", "")
        if response.http_response.status_code == 200 and "event-stream" not in kind:
            response.http_response.close()
            raise unreadable(self.route, f"it sent {kind or 'something without a type'} and no stream")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the SDK's errors into the course's. The originals hold the request, so they are not chained."""
        from azure.core import exceptions

        try:
            yield
        except exceptions.HttpResponseError as error:
            response: Any = error.response
            if response is None or response.status_code == 200:
                raise broken_line(self.route, error) from None
            raise refusal(self.route, response.status_code, response.headers, response.text(), self.model) from None
        except (exceptions.AzureError, OSError) as error:
            raise broken_line(self.route, error) from None
        except (ValueError, AttributeError, TypeError, LookupError):
            raise unreadable(self.route, "its JSON is damaged or of another form") from None


def _events(pieces: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of an event stream, which the network cuts where it likes."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            if line.startswith(b"data: ") and line != b"data: [DONE]":
                yield json.loads(line[6:])
