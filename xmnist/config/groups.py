"""Groups of components, by name, and the declaration of components. No torch."""

import dataclasses
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin

from xmnist.config.components import Component, Key, Options, Source, source_of
from xmnist.config.rules import MOST, Rule, choice, number, text, whole, yes_or_no
from xmnist.runtime.errors import InputError, unknown

C = TypeVar("C", bound=Component)

others: list[Callable[[], None]] = []
"""Functions that load components in addition to the built-in ones; module `plugins` registers itself here."""

declaring: Source | None = None
"""The plug-in whose declarations are being read."""

GROUPS: dict[str, "Group[Any]"] = {}
"""All groups, by the word for one of their components in messages."""


class Group(Generic[C]):
    """The components of one kind, by name, module by module in the order in which they are declared.

    The built-in ones are the declarations in the modules of a package, which are imported when the first is asked for.
    They must not import torch, so that a mistyped word is answered at once.

    Args:
        base: the base class of all of them.
        word: the word for one of them in messages and configs.
        package: the package of the built-in ones.
        closed: whether plug-ins cannot declare more; such a group can be asked before they are loaded.
    """

    def __init__(self, base: type[C], word: str, package: str, closed: bool = False) -> None:
        self.base, self.word, self.package, self.closed = base, word, package, closed
        self._declared: dict[str, type[C]] = {}
        self._remembered: dict[str, type[C]] = {}
        GROUPS[word] = self

    @cached_property
    def _all(self) -> dict[str, type[C]]:
        package = import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.ispkg:
                import_module(f"{self.package}.{module.name}")
        for load in others if not self.closed else ():
            load()
        return self._declared

    def _find(self, name: str) -> type[C] | None:
        """Return the component of that name; only modules that mention it are imported, which saves time."""
        if name not in self._declared and "_all" not in vars(self):
            folder = Path(*import_module(self.package).__path__)
            for path in sorted(folder.glob("*.py")):
                if name not in self._declared and f'("{name}"' in path.read_text(encoding="utf-8"):
                    import_module(f"{self.package}.{path.stem}")
        return self._declared.get(name) or self._all.get(name)

    def own(self) -> list[type[C]]:
        """Return the components of plug-ins."""
        return [kind for kind in self._all.values() if kind.plugin is not None]

    def remember(self, name: str, about: Options) -> None:
        """Store the title of a component that is not here, from a finished run; it cannot be used."""
        if self._find(name) is None:
            self._remembered[name] = self.base.stand_in(name, about)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        # Modules are imported in any order, on demand; sorting by module makes the order the same in every process.
        order = list(self._all)
        return iter(sorted(order, key=lambda name: (self._all[name].__module__, order.index(name))))

    def __getitem__(self, name: str) -> type[C]:
        """Return the component of that name.

        Raises:
            InputError: there is none; names the nearest.
        """
        kind = self._find(name)
        if kind is None:
            raise unknown(self.word, name, self)
        return kind

    def __len__(self) -> int:
        return len(self._all)

    def get(self, name: str) -> type[C] | None:
        """Return the component of that name, also one that is only remembered; None if it is not known here."""
        return self._find(name) or self._remembered.get(name)

    def known(self) -> list[type[C]]:
        """Return all components, including those that are only remembered."""
        return [*self.values(), *self._remembered.values()]

    def check_known(self, key: str, words: Iterable[str]) -> None:
        """Check that names are those of components, which may be only remembered.

        Raises:
            InputError: one is not; `key` is the word for it.
        """
        for word in words:
            if self.get(word) is None:
                raise unknown(key, word, [*self, *self._remembered])

    def values(self) -> list[type[C]]:
        """Return all components."""
        return [self._all[name] for name in self]

    def made(self, where: str, chosen: Any) -> C:
        """Return the component of `chosen`, a name or a group of keys that has a name and options.

        Raises:
            InputError: there is no such component, or an option is wrong.
        """
        options = dict(chosen) if isinstance(chosen, dict) else {"name": chosen}
        return self[str(options.pop("name", None))].made(f"{where}.", options)

    def recorded(self, record: Any) -> C:
        """Return the component that a run directory records; a stand-in if it is unknown here, or had other options.

        Raises:
            InputError: the record has no name.
        """
        name = record.get("name") if isinstance(record, dict) else None
        if not isinstance(name, str):
            raise InputError(f"{self.word}.name must be a name, got {name!r}")
        about = source_of(record)
        with suppress(InputError):
            component = self.made(self.word, record)
            if (component.plugin.digest if component.plugin else "") == about.get("digest", ""):
                return component
        kind = self.base.stand_in(name, about)
        kind.plain = lambda _: dict(record)  # type: ignore[assignment]
        return kind()

    def declare(self, kind: type[C], name: str, **about: Any) -> type[C]:
        """Register a class as a component of this name; `about` are class variables.

        Raises:
            InputError: there is one of this name already, its name is no word, or a key has no type; in a plug-in, a
                key has no default.
        """
        if declaring and self.closed:
            raise InputError(f"{self.word} '{name}': a plug-in cannot declare one")
        if not name.isidentifier():
            raise InputError(f"{self.word} '{name}' must be a word of letters, digits and _")
        # Built-in modules are still being imported here; a plug-in must also differ from those not imported so far.
        known = self._declared if declaring is None else self._all
        if name in known:
            raise InputError(f"{self.word} '{name}' is there already, declared in {known[name].__module__}")
        # A class without fields of its own is a dataclass by its only base; making one costs half a millisecond.
        fields = "__annotations__" in vars(kind) or len(kind.__bases__) > 1
        bare = fields and "__dataclass_fields__" not in vars(kind)
        declared = dataclass(frozen=True, kw_only=True, eq=False, repr=False)(kind) if bare else kind
        for key, value in ({"name": name, "title": name.replace("_", " ")} | about).items():
            setattr(declared, key, value)
        declared.keys, declared.plugin = keys_of(declared), declaring
        for key, option in declared.keys.items():
            if declaring and option.default is dataclasses.MISSING:
                raise InputError(f"{self.word} '{name}': key '{key}' needs a default, such as {key}: int = 10")
        if declaring:
            declared.later = ()  # another version of a plug-in is another source, and so another name anyway
            try:
                declared.check_plugin()
            except InputError as error:
                raise InputError(f"{self.word} '{name}': {error}") from None
        self._declared[name] = declared
        return declared


def keys_of(kind: type) -> dict[str, Key]:
    """Return the options of a dataclass: its fields that are not `given`, with their rules.

    Raises:
        InputError: a field has no type that a rule is known for.
    """
    options = [option for option in dataclasses.fields(kind) if option.init and not option.metadata.get("given")]
    return {option.name: _key(kind, option.name, _annotation(kind, option), option.default) for option in options}


def _annotation(kind: type, option: dataclasses.Field[Any]) -> Any:
    """Return a field's type, also where the module that declares it has its annotations as texts."""
    if not isinstance(option.type, str):
        return option.type
    declaring = next(base for base in kind.__mro__ if option.name in vars(base).get("__annotations__", {}))
    return eval(option.type, vars(sys.modules[declaring.__module__]))  # what Python itself would have made of it


def _key(kind: type, name: str, annotation: Any, default: Any) -> Key:
    parts = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    rule = next((part for part in parts if isinstance(part, Rule)), None) or _rule(parts[0])
    if rule is None:
        raise InputError(
            f"{kind.__module__}.{kind.__qualname__}: key '{name}' needs a type: bool, int, float, str, Literal[...] or "
            f"Annotated[type, rule]"
        )
    return Key(rule, next((part for part in parts[1:] if isinstance(part, str)), ""), default)


def _rule(annotation: Any) -> Rule | None:
    """Return the rule of a plain type, or None."""
    if get_origin(annotation) is Literal:
        return choice(*get_args(annotation))
    rules = {
        bool: yes_or_no(),
        int: dataclasses.replace(whole(-MOST), text="a whole number"),
        float: number(),
        str: text("a text that is not empty"),
    }
    return rules.get(annotation)


def of_function(base: type[C], function: Callable[..., Any]) -> type[C]:
    """Return a component whose options are a function's keyword-only parameters; its attribute `function` calls it.

    A class, which is called like a function, is allowed too.

    Raises:
        InputError: a parameter has no type.
    """
    fields, called = [], function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    known = getattr(called, "__globals__", {})
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            # Only these annotations are evaluated: those of tensors and networks would import torch.
            annotation = (
                eval(parameter.annotation, known) if isinstance(parameter.annotation, str) else parameter.annotation
            )
            default = {} if parameter.default is inspect.Parameter.empty else {"default": parameter.default}
            fields.append((parameter.name, annotation, field(**default)))
    about = {"function": staticmethod(function), "__doc__": function.__doc__, "__module__": function.__module__}
    kind = dataclasses.make_dataclass(
        function.__name__, fields, bases=(base,), namespace=about, kw_only=True, frozen=True, eq=False, repr=False
    )
    kind.__module__ = function.__module__
    return kind
