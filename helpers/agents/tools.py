"""Python functions as tools that a model can call: what they are for, what they take, and a check before each call.

A model writes text. To let it act, a program tells it which functions there are, in a JSON schema of their arguments,
and calls the one that the model names. All of that follows from the function itself, by pydantic:

    >>> from typing import Annotated
    >>> def double(number: Annotated[int, Field(ge=0, le=99, description="what to double")]) -> int:
    ...     '''Twice a number.'''
    ...     return 2 * number
    >>> twice = tool(double)
    >>> twice.schema["properties"]
    {'number': {'type': 'integer', 'maximum': 99, 'minimum': 0, 'description': 'what to double'}}
    >>> twice({"number": 21})
    42

What a model wrote is never trusted: unknown, missing, ill-typed and out-of-range arguments are refused in a sentence.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from helpers.errors import CourseError, InvalidInput

SUPPORTED = "Use str, int, float, bool, a Literal of strings, or a list of one of these."
#: Of these kinds a value can have no name in JSON: *args, **kwargs, and what may not be named in a call.
UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
#: A value that was refused is quoted up to this length: a number may have hundreds of digits.
VALUE_CHARACTERS = 60
#: A true is no 1 and a "3" no 3; infinity is no number that JSON has.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with what a model and its caller need to know of it. Calling it checks the arguments first.

    `schema` is the JSON schema of its arguments, in the function's order.
    """

    name: str
    description: str
    names: tuple[str, ...]
    schema: dict[str, Any]
    function: Callable[..., Any]
    model: type[BaseModel]

    def validate(self, arguments: Any) -> dict[str, Any]:
        """The arguments as the function takes them, defaults filled in; an error says in a sentence what is wrong."""
        if not isinstance(arguments, Mapping):
            raise InvalidInput(f"The arguments of {self.name} must be a JSON object, not {_quoted(arguments)}.")
        try:
            read = self.model.model_validate_json(json.dumps(_whole(arguments)))
        except ValidationError as error:
            raise InvalidInput(self._sentence(error.errors())) from None
        except (TypeError, ValueError, RecursionError):
            raise InvalidInput(f"The arguments of {self.name} are nothing that JSON can hold.") from None
        return dict(zip(self.names, (value for _, value in read), strict=True))

    def __call__(self, arguments: Any) -> Any:
        """What the function returns for these arguments, once they are found to be valid."""
        return self.function(**self.validate(arguments))

    def outcome(self, valid: Mapping[str, Any]) -> tuple[str, bool]:
        """What comes of a call with valid arguments, as text, and whether that says what went wrong."""
        try:
            return str(self.function(**valid)), False
        except CourseError as error:
            return error.message, True
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a tool is anybody's code, and none may end an agent
            return f"The tool {self.name} failed: {type(error).__name__}, {error}.", True

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.names)}): {self.description}"

    def _sentence(self, errors: Iterable[Any]) -> str:
        """The first thing that is wrong; a name that does not exist comes first, as it explains one that is missing."""
        found = min(errors, key=lambda one: one["type"] != "extra_forbidden")
        inner = self.model.model_fields.get(str(found["loc"][0])) if found["loc"] else None
        where = ".".join(map(str, [inner.alias, *found["loc"][1:]] if inner else found["loc"]))
        if found["type"] == "extra_forbidden":
            return f"{self.name} has no argument {where!r}; it takes {', '.join(self.names) or 'none'}."
        if found["type"] == "missing":
            return f"{self.name} needs the argument {where!r}."
        if not where:
            return f"The arguments of {self.name} are nothing that JSON can hold."
        said = re.sub(r"^\w+ should\b", f"{where} must", found["msg"].replace(" after validation", ""))
        return f"{said}." if ", not " in said else f"{said}, not {_quoted(found['input'])}."


def tool(function: Callable[..., Any]) -> Tool:
    """The tool that a function with type hints and a docstring is; its first paragraph is the description.

    `Annotated` with pydantic's `Field` says what an argument is, and bounds it.
    """
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise InvalidInput("A tool needs a name that a model can write, and a lambda has none.", "Define it with def.")
    description = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    if not description:
        raise InvalidInput(f"{name} has no docstring, so no model could know what it is for.", "Give it a first line.")
    parameters = inspect.signature(function).parameters
    try:
        model = create_model(name, __config__=STRICT, **_fields(function, parameters))
        schema = model.model_json_schema(schema_generator=_Plain)
    except (PydanticUserError, NameError, TypeError) as error:
        raise InvalidInput(f"The type hints of {name} are none that JSON can show: {error}.", SUPPORTED) from None
    del schema["title"]
    made = Tool(name, description, tuple(parameters), schema, function, model)
    try:
        model.model_validate({})
    except ValidationError as error:
        wrong = [one for one in error.errors() if one["type"] != "missing"]
        if wrong:
            raise InvalidInput(f"A default of {name} is of another type: {made._sentence(wrong)}") from None
    return made


def tools(functions: Iterable[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """The tools by name; functions become tools. Two of one name are refused."""
    found: dict[str, Tool] = {}
    for function in functions:
        made = function if isinstance(function, Tool) else tool(function)
        if made.name in found:
            raise InvalidInput(f"Two tools are called {made.name!r}, and a model could not tell them apart.")
        found[made.name] = made
    return found


class _Plain(GenerateJsonSchema):
    """The schema without titles, which say a name twice, and in the order in which it was written."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def sort(self, value: Any, parent_key: str | None = None) -> Any:
        return value


def _fields(function: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Type and default of each argument. Names of ours stand inside the model, whose own an argument might hide."""
    hints = get_type_hints(function, include_extras=True)
    fields = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        if parameter.kind in UNNAMED:
            raise InvalidInput(f"{function.__name__} takes {parameter}, and JSON can only fill arguments by name.")
        if name not in hints:
            raise InvalidInput(f"The argument {name!r} of {function.__name__} has no type hint.", SUPPORTED)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[f"argument_{number}"] = (hints[name], Field(default, alias=name))
    return fields


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 3.0 is an integer there (JSON Schema Core, section 4.2.3)."""
    if isinstance(value, Mapping):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}…"
