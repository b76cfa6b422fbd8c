"""Who is called back is given when a part is made: nobody hangs a callable on another object afterwards."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache

from tests.architecture.modules import modules, nodes_of, tree_of
from tests.each import each

STILL_ASSIGNED_LATER: dict[str, set[str]] = {}
MAKERS = {"__init__", "__post_init__", "__new__"}
FUNCTIONS: tuple[type[ast.FunctionDef | ast.AsyncFunctionDef], ...] = (ast.FunctionDef, ast.AsyncFunctionDef)


class Names:
    """``callables``: attributes that are declared to hold one. ``aliases``: names of types of callables.
    ``methods``: what is a method somewhere, and nowhere a value."""

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        trees = list(trees)
        assigned = [node for tree in trees for node in nodes_of(tree, ast.Assign)]
        declared = [node for tree in trees for node in nodes_of(tree, ast.AnnAssign)]
        functions = [node for tree in trees for node in nodes_of(tree, *FUNCTIONS)]
        self.aliases = {"Callable"}
        for node in assigned:
            if _mentions(node.value, {"Callable"}):
                self.aliases |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        self.callables = {
            name
            for node in declared
            if _mentions(node.annotation, self.aliases) and (name := _name(node.target))
        }
        methods, values = set[str](), {name for node in declared if (name := _name(node.target))}
        for function in functions:
            (values if function.decorator_list else methods).add(function.name)
        for node in assigned:
            values |= {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
        self.methods = methods - values

    def is_callable(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Call):
            return _name(value.func) == "partial"
        return isinstance(value, ast.Lambda) or _name(value) in self.methods


def assigned_later(tree: ast.AST, names: Names) -> Iterator[str]:
    """From outside of an object, or by one of its methods after it was made. A library's module is none."""
    functions = nodes_of(tree, *FUNCTIONS)
    making = {id(node) for one in functions if one.name in MAKERS for node in nodes_of(one, ast.Assign)}
    imports = nodes_of(tree, ast.Import)
    libraries = {alias.asname or alias.name for node in imports for alias in node.names}
    for node in nodes_of(tree, ast.Assign):
        for target in node.targets if id(node) not in making else ():
            if not isinstance(target, ast.Attribute) or _is_own(target):
                continue
            if _name(target.value) in libraries:
                continue
            may_be = target.attr in names.callables and _name(node.value)
            if may_be or names.is_callable(node.value):
                yield ast.unparse(target)
    for function in functions:
        if function.name not in MAKERS:
            yield from _kept(function, names)


def _kept(method: ast.FunctionDef | ast.AsyncFunctionDef, names: Names) -> Iterator[str]:
    arguments = [*method.args.args, *method.args.kwonlyargs]
    given = {one.arg for one in arguments if one.annotation and _mentions(one.annotation, names.aliases)}
    for node in nodes_of(method, ast.Assign) if given else ():  # few are given one
        if isinstance(node.value, ast.Name) and node.value.id in given:
            targets = [one for one in node.targets if isinstance(one, ast.Attribute) and _is_own(one)]
            yield from (f"{method.name}: {ast.unparse(target)}" for target in targets)


def _is_own(target: ast.Attribute) -> bool:
    return isinstance(target.value, ast.Name) and target.value.id in ("self", "cls")


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _mentions(node: ast.expr, names: set[str]) -> bool:
    if isinstance(node, ast.Name | ast.Constant):  # most are
        return _name(node) in names
    return any(_name(one) in names for one in nodes_of(node, ast.Name, ast.Attribute))


@cache
def all_names() -> Names:
    return Names(tree_of(path) for path in modules().values())


def test_callbacks_are_given_in_the_constructor() -> None:
    offenders = {
        module: found
        for module, path in modules().items()
        if (found := set(assigned_later(tree_of(path), all_names())))
    }
    assert offenders == STILL_ASSIGNED_LATER


DECLARED = """
Told = Callable[[int], None]
class Part:
    on_added: Told
    def run(self): ...
"""


@each(
    "line, found",
    [
        ("outbox.on_added = self.run", ["outbox.on_added"]),
        ("database.on_added = metrics.observe", ["database.on_added"]),
        ("gauges.oldest = lambda: 0", ["gauges.oldest"]),
        ("sender.told = partial(print, 1)", ["sender.told"]),
        ("def watch(self, told: Told): self._told = told", ["watch: self._told"]),
        ("def watch(self, told: Callable[[], None]): self.x = told", ["watch: self.x"]),
        ("def __init__(self, told: Told): self._told = told", []),
        ("request.on_added = None", []),
        ("batch.noted = True", []),
        ("self._told = told", []),
    ],
)
def test_what_is_assigned_later_is_found(line: str, found: list[str]) -> None:
    assert list(assigned_later(ast.parse(line), Names([ast.parse(DECLARED)]))) == found
