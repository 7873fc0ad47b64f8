"""Families of networks: each makes its constructors here, and all of them are listed here.

A family is a module. It writes one general constructor, a function of its own arguments and of `**shared`, which are
those of `shared.SharedArguments`, and one row for each named network:

    FAMILY = Family(__name__)

    @FAMILY.constructor()
    def TinyNet(depth: int, **shared: Unpack[SharedKeywords]) -> keras.Model:
        ...
        contract = Contract(default_size=32, min_size=1, **shared)

    TinyNet8 = FAMILY.variant(TinyNet, "TinyNet8", {"depth": 8}, doc="Build TinyNet8: `TinyNet(8)`.",
                              network="TinyNet-8", error="5.0", source="arXiv:...")

What users call, here `TinyNet` and `TinyNet8`, has the shared arguments in its signature and in its docstring, one by
one, where the function has `**shared`. Everything else that knows networks asks this module: `applications` for its
names, `zoo` for the table, `architectures` for what weights fit.
"""

import dataclasses
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import keras

from keras_condense.applications.published import Published
from keras_condense.applications.shared import SharedArguments, SharedKeywords
from keras_condense.validation import check_choice

if sys.version_info >= (3, 11):
    from typing import Unpack
else:  # which Keras brings along
    from typing_extensions import Unpack

__all__ = ["FAMILIES", "Constructor", "Family", "SharedKeywords", "Unpack", "constructors", "find_constructor"]

FAMILIES: dict[str, "Family"] = {}  # by the names of their modules

Constructor = Callable[..., keras.Model]
_General = TypeVar("_General", bound=Constructor)

_NOTHING: Mapping[str, Any] = types.MappingProxyType({})
_SHARED = {
    field.name: inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY if field.name == "memory_efficient" else inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=field.default,
        annotation=field.type,
    )
    for field in dataclasses.fields(SharedArguments)
}


def constructors() -> dict[str, Constructor]:
    """Return the constructors of all families by their names."""
    return {name: function for family in FAMILIES.values() for name, function in family.constructors.items()}


def find_constructor(name: str) -> Constructor:
    """Return the constructor of that name.

    Raises:
        ValueError: no family has one.

    Example:
        >>> find_constructor("DenseNet121").__module__
        'keras_condense.applications.densenet'
    """
    known = constructors()
    check_choice("constructor", name, known, "Use a constructor of keras_condense.applications.")
    return known[name]


class Family:
    """The constructors of one module, and what the papers say of the networks that they build.

    Args:
        module: the module's `__name__`. Making a family lists it in `FAMILIES`.

    Attributes:
        name: the last part of the module's name.
        constructors: functions by their names.
        figures: `Published` rows, in the order of the papers' tables.
    """

    def __init__(self, module: str) -> None:
        """List the family."""
        self.module, self.name = module, module.rpartition(".")[2]
        self.constructors: dict[str, Constructor] = {}
        self.figures: list[Published] = []
        FAMILIES[self.name] = self

    def constructor(self, *, takes_memory_efficient: bool = False, **defaults: Any) -> Callable[[_General], _General]:
        """Make and list the general constructor of which a function of `**shared` is the body.

        Args:
            takes_memory_efficient: whether the network can be trained in less memory.
            **defaults: of shared arguments, where they are not the usual ones.

        Returns:
            A decorator.
        """

        def decorate(body: _General) -> _General:
            own = [p for p in inspect.signature(body).parameters.values() if p.kind is not p.VAR_KEYWORD]
            shared = _shared({"name": body.__name__.lower()} | defaults)
            if not takes_memory_efficient:
                del shared["memory_efficient"]
            signature = _signature([*own, *shared.values()])
            doc = body.__doc__ and _described(body.__doc__, signature.parameters)  # `python -OO` has no docstrings
            made = self._listed(body.__name__, signature, doc, body)
            made.__wrapped__ = body
            return made

        return decorate

    def variant(
        self,
        general: Constructor,
        name: str,
        arguments: Mapping[str, Any],
        *,
        doc: str,
        defaults: Mapping[str, Any] = _NOTHING,
        annotated: bool = True,
        **figures: Any,
    ) -> Constructor:
        """Make and list the constructor of a named network, and what the paper says of it.

        Args:
            general: the family's general constructor.
            name: of the network, as users write it.
            arguments: those of `general` that make the network what it is.
            doc: the first sentence of the docstring.
            defaults: of shared arguments, where they are not the usual ones; and of arguments of `general` that users
                may change by keyword.
            annotated: whether the signature names types.
            **figures: fields of `Published`, besides `constructor`.

        Returns:
            The constructor.

        Raises:
            ValueError: the name is taken.
        """
        shared = _shared({"name": name.lower()} | {key: value for key, value in defaults.items() if key in _SHARED})
        if "memory_efficient" not in defaults:
            del shared["memory_efficient"]
        known = inspect.signature(general).parameters
        options = [
            known[key].replace(kind=inspect.Parameter.KEYWORD_ONLY, default=value)
            for key, value in defaults.items()
            if key not in _SHARED
        ]
        signature = _signature([*shared.values(), *options])
        if not annotated:
            bare = [
                parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
            ]
            signature = inspect.Signature(bare)
        doc = f"{doc} The arguments are those of `{general.__name__}`."

        def build(**chosen: Any) -> keras.Model:
            return self.constructors[general.__name__](**arguments, **chosen)

        made = self._listed(name, signature, doc, build)
        made.builds = (general.__name__, dict(arguments))
        self.publish(Published(constructor=name, **figures))
        return made

    def publish(self, *rows: Published) -> None:
        """List what a paper says of networks."""
        self.figures += rows

    def _listed(self, name: str, signature: inspect.Signature, doc: str | None, body: Constructor) -> Any:
        if name in constructors():
            raise ValueError(f"`name` (={name!r}) must be new, and a constructor has it. Choose another name.")

        def function(*args: Any, **kwargs: Any) -> keras.Model:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name}() {error}") from None
            bound.apply_defaults()
            return body(**bound.arguments)

        function.__name__ = function.__qualname__ = name
        function.__module__, function.__doc__, function.__signature__ = self.module, doc, signature
        function.__annotations__ = {
            parameter.name: parameter.annotation
            for parameter in signature.parameters.values()
            if parameter.annotation is not parameter.empty
        }
        if signature.return_annotation is not signature.empty:
            function.__annotations__["return"] = signature.return_annotation
        self.constructors[name] = function
        return function


def _shared(defaults: Mapping[str, Any]) -> dict[str, inspect.Parameter]:
    """The shared parameters, with other defaults."""
    return {name: p.replace(default=defaults.get(name, p.default)) for name, p in _SHARED.items()}


def _signature(parameters: Iterable[inspect.Parameter]) -> inspect.Signature:
    """Those by position first, each kind in the order given, and `memory_efficient` at the end."""
    ordered = sorted(parameters, key=lambda p: (p.kind, p.name == "memory_efficient"))
    return inspect.Signature(ordered, return_annotation=keras.Model)


def _described(doc: str, parameters: Iterable[str]) -> str:
    """The docstring, with a line for every parameter in its section "Args:": its own or the shared one."""
    introduction, _, rest = inspect.cleandoc(doc).partition("\nArgs:\n")
    own, blank, rest = rest.partition("\n\n")
    lines = _entries(inspect.cleandoc(SharedArguments.__doc__)) | _entries(own)
    return "\n".join([introduction, "Args:", *(lines[name] for name in parameters)]) + blank + rest


def _entries(section: str) -> dict[str, str]:
    """The descriptions in a section of a docstring, by the names before their colons."""
    found = re.finditer(r"^    (\w+): .*(?:\n        .*)*", section, re.MULTILINE)
    return {entry[1]: entry[0] for entry in found}
