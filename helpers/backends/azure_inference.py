"""The Azure AI Inference SDK: deprecated, and still spoken by many endpoints and by any server with the same routes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from helpers import settings
from helpers.backends.faults import broken_line, refusal
from helpers.backends.hosted import Hosted


class Engine(Hosted):
    """One model behind the routes of Azure's model inference API."""

    name = "azure-ai-inference"
    package = "azure-ai-inference"
    install = "pip install azure-ai-inference"
    trust = settings.TRUST_OF_REQUESTS

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
            permit_redirects=False,
            connection_timeout=self.patience.connect_seconds,
            # The thread that reads ends soon after the call has given up on it.
            read_timeout=self.patience.read_seconds + 1,
            transport=RequestsTransport(use_env_settings=not self.route.is_loopback),
        )

    @contextmanager
    def _post(self, body: dict[str, Any]) -> Iterator[Any]:
        from azure.core.exceptions import AzureError, HttpResponseError
        from azure.core.rest import HttpRequest

        opened: list[Any] = []
        # The SDK's errors hold the request and its key, so they are not chained.
        try:
            if "messages" in body:
                # Its own reader of the stream takes a comment or a CR for a fault, so the response itself is read.
                headers = {"extra-parameters": "pass-through"}
                self.client.complete(body, headers=headers, raw_response_hook=lambda r: opened.append(r.http_response))
            else:  # it has no call for this route, but sends any request of ours with its key
                opened.append(self.client.send_request(HttpRequest("POST", "/completions", json=body), stream=True))
                if opened[0].status_code != 200:
                    opened[0].read()
                    raise HttpResponseError(response=opened[0])
            with opened[0] as response:
                yield response
        except (AzureError, OSError) as error:
            said = getattr(error, "response", None)
            if said is None or said.status_code == 200:
                raise broken_line(self.route, error) from None
            raise refusal(self.route, said.status_code, said.headers, said.text(), self.model) from None
