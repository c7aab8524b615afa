"""From what went wrong to a sentence: an HTTP status, a broken line or an unreadable answer, as the course's errors."""

from __future__ import annotations

import email.utils
import json
import math
import os
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from helpers import errors
from helpers.errors import CourseError, RemoteError

if TYPE_CHECKING:
    from helpers.backends.remote import Route

#: For each status: the error, what happened, and what to do. `{who}`, `{what}` and `{again}` are filled in.
STATUSES: dict[int, tuple[type[RemoteError], str, str]] = {
    401: (errors.WrongKey, "{who} does not know the key.", "Check it for missing characters, or get a new one."),
    403: (errors.NoPermission, "The key may not use {what} at {who}.", "Give it the role or scope for this."),
    404: (errors.ModelGone, "{who} does not have {what}.", "probe() lists what it offers today."),
    407: (
        errors.Unreachable,
        "A proxy on the way to {who} wants a name and a password.",
        "Put them into the address of HTTP_PROXY and HTTPS_PROXY, as in http://name:password@host:port.",
    ),
    410: (errors.ModelGone, "{who} has retired {what}.", "probe() lists what it offers today."),
    413: (errors.RequestTooLarge, "The request is larger than {who} takes.", "Send less text, or a smaller image."),
    429: (errors.QuotaExceeded, "{who} has had too many requests with this key.", "Ask again {again}."),
}
FAULT = (errors.ServerFault, "{who} failed with status {status}.", "Ask again {again}.")
MIDWAY = (
    errors.ServerFault,
    "{who} failed in the midst of its answer.",
    "Ask again; if it fails again, the server's own log says more.",
)
OTHER = (errors.RequestRefused, "{who} refuses the request with status {status}.", "Change what it complains of.")


def refusal(route: Route, status: int, headers: Mapping[str, str], body: str, model: str = "") -> CourseError:
    """The error that an HTTP status stands for, with the server's own words where they help; 0 is none."""
    if 300 <= status < 400:
        return _moved(route, status, headers)
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
    kind, message, step = STATUSES.get(status, FAULT if status >= 500 else OTHER if status else MIDWAY)
    wait = _retry_after(headers)
    fill = {
        "who": route.title,
        "what": f"the model {model!r}" if model else "what was asked for",
        "again": "later" if wait is None else f"in {wait:.0f} s",
        "status": status,
    }
    return kind(message.format(**fill) + said, step.format(**fill), status=status or None, retry_after_seconds=wait)


def gone_for_good(error: errors.ModelGone, who: str, since: date | None) -> errors.ModelGone:
    """The error of a model that is not there, with the day on which it was retired where the catalog knows one."""
    if since is None:
        return error
    return errors.ModelGone(
        f"{error.message} {who} retired it on {since}.",
        "Take its successor there, as phi-4-mini, another provider, or run it on a machine of your own.",
        status=error.status,
    )


def reported(route: Route, event: Mapping[str, Any], model: str) -> CourseError:
    """The error that a server tells in the midst of its answer; a code that is an HTTP status counts as one."""
    error = event["error"]
    code = error.get("code") if isinstance(error, dict) else None
    return refusal(route, code if isinstance(code, int) and 400 <= code < 600 else 0, {}, json.dumps(event), model)


def broken_line(route: Route, error: BaseException) -> RemoteError:
    """The error of a connection that could not be made, or that broke, whichever library met it."""
    chain = _chain(error)
    names = {type(one).__name__ for one in chain}
    text = " ".join(f"{type(one).__name__} {one}" for one in chain)
    if any(isinstance(one, ssl.SSLError) and not isinstance(one, ssl.SSLEOFError) for one in chain):
        return _insecure(route, text)
    if names & {"ProxyError", "InvalidProxyURL"}:
        return errors.Unreachable(
            f"The proxy on the way to {route.title} does not let the request through.",
            "Check the address in HTTP_PROXY and HTTPS_PROXY, or leave them out where no proxy is needed.",
        )
    if names & {"gaierror", "NameResolutionError"}:
        return errors.UnknownAddress(
            f"The name {route.host} does not resolve, so {route.title} cannot be found.",
            "Check the address for a typing error, and that this machine has a network.",
        )
    if "Timeout" in text or "timed out" in text:
        return errors.TimedOut(f"{route.title} did not answer in time.", "Ask again later, or with more patience.")
    if names & {"DecodingError", "DecodeError", "ContentDecodingError"}:
        return unreadable(route, "what it calls compressed was damaged on the way, or is not compressed")
    if "refused" in text or "unreachable" in text.lower() or names & {"ConnectError", "NewConnectionError"}:
        return errors.Unreachable(
            f"Nothing answers at {route.host}.",
            "Check the address, and that the server runs and no firewall is between.",
        )
    if names & {"RemoteDisconnected"} or "without sending a response" in text:
        return errors.ConnectionLost(
            f"{route.title} was reached at {route.host}, and hung up without an answer.",
            "Ask again; if it stays so, what listens there may be no HTTP server.",
        )
    if "BadStatusLine" in names or ("RemoteProtocolError" in names and "peer closed" not in text):
        return unreadable(route, f"what listens at {route.host} does not speak HTTP")
    return cut_short(route)


def cut_short(route: Route) -> errors.ConnectionLost:
    """The error of an answer that ended before it was whole."""
    return errors.ConnectionLost(
        f"The connection to {route.title} broke before the answer was whole.", "Ask again; what came is in error.reply."
    )


def unreadable(route: Route, why: str) -> errors.UnreadableAnswer:
    """The error of an answer that is no answer of a language model."""
    return errors.UnreadableAnswer(
        f"{route.title} answered, but not as a language model does: {why}.",
        "Check the address: a login page or another service may answer there.",
    )


def _moved(route: Route, status: int, headers: Mapping[str, str]) -> RemoteError:
    """A redirect, which is not followed: it would take the key and the text to whom nobody chose."""
    place = urllib.parse.urlsplit(headers.get("location") or "").netloc.rpartition("@")[2]
    where = f" to {place}" if place and place != route.host else ""
    return errors.Unreachable(
        f"{route.title} sends the request on{where} with status {status}; the key does not follow there.",
        "Check the address, https:// above all; if the provider has moved, set its new one.",
        status=status,
    )


def _insecure(route: Route, text: str) -> RemoteError:
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text or "wrong version" in text:
        return errors.Unreachable(
            f"What answers at {route.host} speaks no TLS, so {route.title} cannot be asked safely.",
            "Check the port; a server on this machine often wants http:// and not https://.",
        )
    trusted = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE") if os.environ.get(name)]
    whom = f" Here {' and '.join(trusted)} decides whose certificates count." if trusted else ""
    return errors.CertificateRefused(
        f"Who answers at {route.host} cannot prove to be {route.title}: its certificate does not fit.",
        f"Check the address and the clock; behind a company's proxy, its certificate must be installed.{whom}",
    )


def _words(body: str) -> tuple[str, str]:
    """The code and the message of an error's body, whatever its form."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    if isinstance(error, dict):
        return f"{error.get('code')} {error.get('type')}", str(error.get("message") or "")
    return "", str(error)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks to wait: a number, or a date (RFC 9110, section 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


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
