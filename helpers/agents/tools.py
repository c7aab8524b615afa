"""Python functions as tools that a model can call: what they are for, what they take, and a check before each call.

A model writes text. To let it act, a program tells it which functions there are, in a JSON schema of their arguments,
and calls the one that the model names. All of that follows from the function itself:

    >>> def double(number: Annotated[int, "what to double", Between(0, 99)]) -> int:
    ...     '''Twice a number.'''
    ...     return 2 * number
    >>> twice = tool(double)
    >>> twice.schema["properties"]
    {'number': {'type': 'integer', 'minimum': 0, 'maximum': 99, 'description': 'what to double'}}
    >>> twice({"number": 21})
    42

What a model wrote is never trusted: unknown, missing, ill-typed and out-of-range arguments are refused in a sentence.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from helpers.errors import InvalidInput

#: The types that an argument may have, and their names in JSON Schema (2020-12, "Validation", section 6.1.1).
TYPES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
SUPPORTED = "Use str, int, float, bool, a Literal of strings, or a list of one of these."
#: Of these kinds a value can have no name in JSON: *args, **kwargs, and what may not be named in a call.
UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds that `Annotated` puts on an argument: of a number's value, or of the length of a text or a list."""

    low: float
    high: float

    def holds(self, value: Any) -> bool:
        """Whether a value, or its length, lies within the bounds."""
        return self.low <= (len(value) if isinstance(value, (str, list)) else value) <= self.high


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a tool. `kind` is its type, `choices` are its values where they are counted up."""

    name: str
    kind: type
    choices: tuple[str, ...] = ()
    many: bool = False
    bounds: Between | None = None
    about: str = ""
    required: bool = True
    default: Any = None

    @property
    def schema(self) -> dict[str, Any]:
        """The argument's JSON schema."""
        form: dict[str, Any] = {"type": TYPES[self.kind]}
        if self.choices:
            form["enum"] = list(self.choices)
        if self.many:
            form = {"type": "array", "items": form}
        if self.bounds:
            low, high = _BOUNDS[form["type"]]
            form |= {low: self.bounds.low, high: self.bounds.high}
        return form | ({"description": self.about} if self.about else {})

    def read(self, value: Any) -> Any:
        """The value as the function takes it; an error where it is of another type or out of range."""
        if self.many and not isinstance(value, list):
            raise InvalidInput(f"{self.name} must be a list, not {value!r}.")
        read = [self._one(item) for item in value] if self.many else self._one(value)
        if self.bounds and not self.bounds.holds(read):
            what = "" if isinstance(read, (int, float)) else "the length of "
            raise InvalidInput(
                f"{what}{self.name} must be between {self.bounds.low:g} and {self.bounds.high:g}, not {_size(read):g}."
            )
        return read

    def _one(self, value: Any) -> Any:
        if self.kind in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
            # JSON has one kind of number: 3.0 is an integer there (JSON Schema Core, section 4.2.3).
            if math.isfinite(value) and (self.kind is float or value == int(value)):
                return self.kind(value)
        elif type(value) is self.kind and (not self.choices or value in self.choices):
            return value
        wanted = f"one of {', '.join(self.choices)}" if self.choices else f"of type {TYPES[self.kind]}"
        raise InvalidInput(f"{self.name} must be {wanted}, not {value!r}.")


_BOUNDS = {
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function with what a model and its caller need to know of it. Calling it checks the arguments first."""

    name: str
    description: str
    arguments: tuple[Argument, ...]
    function: Callable[..., Any]

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments, all of them, in the function's order."""
        return {
            "type": "object",
            "properties": {argument.name: argument.schema for argument in self.arguments},
            "required": [argument.name for argument in self.arguments if argument.required],
            "additionalProperties": False,
        }

    def validate(self, arguments: Any) -> dict[str, Any]:
        """The arguments as the function takes them, defaults filled in; an error says in a sentence what is wrong."""
        if not isinstance(arguments, Mapping):
            raise InvalidInput(f"The arguments of {self.name} must be a JSON object, not {arguments!r}.")
        names = [argument.name for argument in self.arguments]
        unknown = [str(name) for name in arguments if name not in names]
        missing = [argument.name for argument in self.arguments if argument.required and argument.name not in arguments]
        if unknown:
            raise InvalidInput(f"{self.name} has no argument {unknown[0]!r}; it takes {', '.join(names) or 'none'}.")
        if missing:
            raise InvalidInput(f"{self.name} needs the argument {missing[0]!r}.")
        return {
            argument.name: argument.read(arguments[argument.name]) if argument.name in arguments else argument.default
            for argument in self.arguments
        }

    def __call__(self, arguments: Any) -> Any:
        """What the function returns for these arguments, once they are found to be valid."""
        return self.function(**self.validate(arguments))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(argument.name for argument in self.arguments)}): {self.description}"


def tool(function: Callable[..., Any]) -> Tool:
    """The tool that a function with type hints and a docstring is; its first paragraph is the description.

    `Annotated` adds to a hint: a string says what the argument is, `Between` bounds it.
    """
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise InvalidInput("A tool needs a name that a model can write, and a lambda has none.", "Define it with def.")
    description = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    if not description:
        raise InvalidInput(f"{name} has no docstring, so no model could know what it is for.", "Give it a first line.")
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise InvalidInput(f"The type hints of {name} cannot be read: {error}.", SUPPORTED) from None
    parameters = inspect.signature(function).parameters.values()
    return Tool(name, description, tuple(_argument(name, one, hints) for one in parameters), function)


def tools(functions: Iterable[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """The tools by name; functions become tools. Two of one name are refused."""
    found: dict[str, Tool] = {}
    for function in functions:
        made = function if isinstance(function, Tool) else tool(function)
        if made.name in found:
            raise InvalidInput(f"Two tools are called {made.name!r}, and a model could not tell them apart.")
        found[made.name] = made
    return found


def _argument(function: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> Argument:
    name = parameter.name
    if parameter.kind in UNNAMED:
        raise InvalidInput(f"{function} takes {parameter}, and JSON can only fill arguments by name.", SUPPORTED)
    if name not in hints:
        raise InvalidInput(f"The argument {name!r} of {function} has no type hint.", SUPPORTED)
    annotated = get_origin(hints[name]) is Annotated
    hint, *extras = get_args(hints[name]) if annotated else (hints[name],)
    many = get_origin(hint) is list
    kind, choices = _kind(get_args(hint)[0] if many else hint)
    if kind is None:
        raise InvalidInput(f"The argument {name!r} of {function} has a type that JSON cannot show: {hint}.", SUPPORTED)
    made = Argument(
        name,
        kind,
        choices,
        many,
        bounds=next((extra for extra in extras if isinstance(extra, Between)), None),
        about=next((extra for extra in extras if isinstance(extra, str)), ""),
        required=parameter.default is parameter.empty,
        default=None if parameter.default is parameter.empty else parameter.default,
    )
    if made.bounds and not many and (choices or kind is bool):
        raise InvalidInput(f"The argument {name!r} of {function} is neither number, text nor list, so it has no range.")
    if not made.required:
        made.read(made.default)
    return made


def _kind(hint: Any) -> tuple[type | None, tuple[str, ...]]:
    """The type and the choices of a hint; no type where it is not supported."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return (str, choices) if all(isinstance(choice, str) for choice in choices) else (None, ())
    return (hint if hint in TYPES else None), ()


def _size(value: Any) -> float:
    return len(value) if isinstance(value, (str, list)) else value
