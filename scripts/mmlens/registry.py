"""Name -> implementation, with names known before anything heavy is imported."""

import ast
import difflib
import importlib
from pathlib import Path


class Registry:
    """Implementations of one kind, registered by decorator in the modules of one package.

    Names and the decorator's literal keyword arguments are read from the source text of the
    package, so that the workflow can check a configuration without importing torch; the module
    that holds a name is imported when the name is first asked for. A new implementation is one
    new file with one decorated object.

    Parameters
    ----------
    kind : str
        What is registered, for example "model"; the decorator is called register_<kind>.
    package : str
        Dotted name of the package whose modules hold the implementations.
    """

    def __init__(self, kind, package):
        self.kind = kind
        self.package = package
        self.entries = {}
        self._declared = None

    def register(self, name, **attributes):
        """Decorator: file the object under `name`; keyword arguments become its attributes."""

        def decorate(entry):
            entry.name = name
            for key, value in attributes.items():
                setattr(entry, key, value)
            self.entries[name] = entry
            return entry

        return decorate

    @property
    def declared(self):
        """dict: name -> (module, keyword arguments of its decorator), from the source text."""
        if self._declared is None:
            folder = Path(__file__).parent.joinpath(*self.package.split(".")[1:])
            self._declared = {}
            for path in sorted(folder.glob("*.py")):
                for node in ast.parse(path.read_text(encoding="utf-8")).body:
                    for call in getattr(node, "decorator_list", []):
                        if isinstance(call, ast.Call) and self._is_ours(call.func):
                            keywords = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
                            name = ast.literal_eval(call.args[0])
                            self._declared[name] = (f"{self.package}.{path.stem}", keywords)
        return self._declared

    def _is_ours(self, function):
        return isinstance(function, ast.Name) and function.id == f"register_{self.kind}"

    def names(self):
        """All registered names, sorted."""
        return sorted(self.declared)

    def attribute(self, name, key, default=None):
        """A keyword argument of the decorator of `name`, without importing its module."""
        self.check(name)
        return self.declared[name][1].get(key, default)

    def check(self, name):
        """ValueError with the nearest known names if nothing is registered as `name`."""
        if name not in self.declared:
            raise ValueError(unknown(self.kind, name, self.names()))

    def get(self, name):
        """The implementation called `name`, importing its module if needed."""
        self.check(name)
        importlib.import_module(self.declared[name][0])
        return self.entries[name]


def unknown(kind, name, known, within=""):
    """Message for an unknown name, with the nearest known ones; `within` is put before it."""
    near = difflib.get_close_matches(str(name), known, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {kind} '{within}{name}': {hint}known are {', '.join(known)}"
