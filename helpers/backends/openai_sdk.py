"""The OpenAI SDK, which most providers and servers answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers.backends.faults import broken_line, refusal
from helpers.backends.hosted import Hosted
from helpers.backends.remote import client


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
            http_client=client(self.route, timeout=timeout),
        )

    @contextmanager
    def _post(self, body: dict[str, Any]) -> Iterator[Any]:
        import httpx2
        import openai

        model, sent = body["model"], {"model": body["model"], "stream": True, "extra_body": body}
        # The SDK's errors hold the request and its key, so they are not chained.
        try:
            if "messages" in body:
                create = self.client.chat.completions.with_streaming_response.create
                opened = create(messages=body["messages"], **sent)
            else:
                opened = self.client.completions.with_streaming_response.create(prompt=body["prompt"], **sent)
            with opened as response:
                yield response
        except openai.APIStatusError as error:
            said = error.response
            raise refusal(self.route, said.status_code, said.headers, said.text, model) from None
        except (openai.APIConnectionError, httpx2.HTTPError, OSError) as error:
            raise broken_line(self.route, error) from None
