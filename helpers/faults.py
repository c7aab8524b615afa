"""From what went wrong to a sentence: an HTTP status, a broken line or an unreadable answer, as the course's errors."""

from __future__ import annotations

import email.utils
import json
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from helpers import errors
from helpers.errors import CourseError, RemoteError
from helpers.routes import Route

#: For each status: the error, what happened, and what to do. `{who}`, `{what}` and `{again}` are filled in.
STATUSES: dict[int, tuple[type[RemoteError], str, str]] = {
    401: (errors.WrongKey, "{who} does not know the key.", "Check it for missing characters, or get a new one."),
    403: (errors.NoPermission, "The key may not use {what} at {who}.", "Give it the role or scope for this."),
    404: (errors.ModelGone, "{who} does not have {what}.", "probe() lists what it offers today."),
    410: (errors.ModelGone, "{who} has retired {what}.", "probe() lists what it offers today."),
    413: (errors.RequestTooLarge, "The request is larger than {who} takes.", "Send less text, or a smaller image."),
    429: (errors.QuotaExceeded, "{who} has had too many requests with this key.", "Ask again {again}."),
}
FAULT = (errors.ServerFault, "{who} failed with status {status}.", "Ask again {again}.")
OTHER = (errors.RequestRefused, "{who} refuses the request with status {status}.", "Change what it complains of.")


def refusal(route: Route, status: int, headers: Mapping[str, str], body: str, model: str = "") -> CourseError:
    """The error that an HTTP status stands for, with the server's own words where they help."""
    code, words = _words(body)
    # A server may repeat the key that it refuses, so its words on a 401 are left out.
    said = f" It says: {route.quote(words)}" if words and status != 401 else ""
    if "content_filter" in code:
        message = f"The content filter of {route.title} stopped the request.{said}"
        return errors.ContentFiltered(message, "Say it in other words.", status=status)
    if status in (400, 413) and "context" in f"{code} {words}":
        message = f"The text is longer than the context at {route.title}.{said}"
        return errors.ContextOverflow(message, "Send less of it, or call reset().")
    if "image input is not supported" in words:  # llama.cpp says so with a 500, as if it could be asked again
        message = f"The model at {route.title} reads only text: its server has no vision projector.{said}"
        return errors.RequestRefused(message, "Leave the images out, or start it with one (--mmproj).", status=status)
    kind, message, step = STATUSES.get(status, FAULT if status >= 500 else OTHER)
    wait = _retry_after(headers)
    fill = {
        "who": route.title,
        "what": f"the model {model!r}" if model else "what was asked for",
        "again": "later" if wait is None else f"in {wait:.0f} s",
        "status": status,
    }
    return kind(message.format(**fill) + said, step.format(**fill), status=status, retry_after_seconds=wait)


def broken_line(route: Route, error: BaseException) -> RemoteError:
    """The error of a connection that could not be made, or that broke."""
    chain = _chain(error)
    text = " ".join(f"{type(e).__name__} {e}" for e in chain)
    host = urllib.parse.urlsplit(route.address).netloc
    if any(isinstance(e, ssl.SSLError) for e in chain) or "CERTIFICATE_VERIFY" in text:
        return errors.CertificateRefused(
            f"Who answers at {host} cannot prove to be {route.title}: its certificate does not fit.",
            "Check the address and the clock; behind a company's proxy, its certificate must be installed.",
        )
    if any(type(e).__name__ in ("gaierror", "NameResolutionError") for e in chain):
        return errors.UnknownAddress(
            f"The name {host} does not resolve, so {route.title} cannot be found.",
            "Check the address for a typing error, and that this machine has a network.",
        )
    if "Timeout" in text or "timed out" in text:
        return errors.TimedOut(f"{route.title} did not answer in time.", "Ask again later, or with more patience.")
    if "refused" in text or "unreachable" in text.lower() or "ConnectError" in text or "NewConnection" in text:
        return errors.Unreachable(
            f"Nothing answers at {host}.", "Check the address, and that the server runs and no firewall is between."
        )
    return errors.ConnectionLost(
        f"The connection to {route.title} broke before the answer was whole.", "Ask again; what came is in error.reply."
    )


def unreadable(route: Route, why: str) -> errors.UnreadableAnswer:
    """The error of an answer that is no answer of a language model."""
    return errors.UnreadableAnswer(
        f"{route.title} answered, but not as a language model does: {why}.",
        "Check the address: a login page or another service may answer there.",
    )


def _words(body: str) -> tuple[str, str]:
    """The code and the message of an error's body, whatever its form."""
    try:
        parsed = json.loads(body)
        error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
        if isinstance(error, dict):
            return f"{error.get('code')} {error.get('type')}", str(error.get("message") or "")
        return "", str(error)
    except ValueError:
        return "", ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait: a number, or a date (RFC 9110, section 10.2.3)."""
    value = next((v for name, v in headers.items() if name.lower() == "retry-after"), None)
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _chain(error: BaseException) -> list[BaseException]:
    """An error with all that led to it."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            todo += [one.__cause__, one.__context__, getattr(one, "inner_exception", None), *one.args]
    return found
