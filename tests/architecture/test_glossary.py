"""Names and texts keep to the words of ``docs/glossary.md``."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.architecture.modules import modules, nodes_of, tree_of
from tests.each import each

ROOT = Path(__file__).parents[2]
LIST = "## Words that are not used"
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, str]]:
    """The two columns of the table below a heading."""
    text = GLOSSARY.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    return [row for row in found if set(row[0]) != {"-"}][1:]


def words_of(name: str) -> list[str]:
    """``FanOutReceipt`` -> fan, out, receipt."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+", name)]


@cache
def avoided(heading: str = "Words that are not used") -> dict[str, str]:
    """Word that is not used -> what is said instead."""
    return {word.strip(): instead for words, instead in rows(heading) for word in words.split(",")}


def test_nothing_is_named_with_a_word_that_is_not_used() -> None:
    words = avoided() | avoided("Names that are not used")
    offenders = [
        f"{module}: {name} ({word}: say {words[word]})"
        for module, path in modules().items()
        for name in sorted({module.rpartition(".")[2], *names_in(tree_of(path))})
        for word in words_of(name)
        if word in words
    ]
    assert offenders == []


@each(
    "code, named",
    [
        ("def tell(trouble: str) -> None: ...", ["tell", "trouble"]),
        ("class ToldByProcess:\n    pieces: int = 0", ["ToldByProcess", "pieces"]),
        ("said, (self.taken, x.y) = a, b", ["said", "self", "taken", "x", "y"]),
        ("for told in a: ...", ["told"]),
        ("async def f():\n    async for told in a: ...", ["f", "told"]),
        ("with a as told: ...", ["told"]),
        ("[piece for piece in a if (heard := piece)]", ["heard", "piece"]),
        ("try: ...\nexcept OSError as trouble: ...", ["trouble"]),
        ("lambda told, *said, **heard: 0", ["heard", "said", "told"]),
        ("match a:\n    case [told, *said] | {'a': told, **said}: ...", ["said", "told"]),
        ("match a:\n    case str() as told: ...", ["told"]),
        ("import a as told\nfrom b import c as said", ["said", "told"]),
        ("told(said.heard, key='told')", []),
    ],
)
def test_a_name_is_found_wherever_it_is_given(code: str, named: list[str]) -> None:
    assert sorted({*names_in(ast.parse(code))}) == sorted(named)


def names_in(tree: ast.Module) -> Iterator[str]:
    """Of classes, functions, parameters, variables and attributes, where they are defined."""
    for kind, attribute in NAMES:
        yield from (name for node in nodes_of(tree, kind) if (name := getattr(node, attribute)))
    for target in _targets(tree):
        if isinstance(target, ast.Name):  # most are
            yield target.id
        else:
            yield from (one.id for one in nodes_of(target, ast.Name))
            yield from (one.attr for one in nodes_of(target, ast.Attribute))


NAMES: list[tuple[type[ast.AST], str]] = [
    *((kind, "name") for kind in (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)),
    *((kind, "name") for kind in (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)),
    *((ast.arg, "arg"), (ast.MatchMapping, "rest"), (ast.alias, "asname")),
]
SET_ONE: list[type[ast.AnnAssign | ast.NamedExpr | ast.For | ast.AsyncFor | ast.comprehension]] = [
    *(ast.AnnAssign, ast.NamedExpr, ast.For, ast.AsyncFor, ast.comprehension),
]


def _targets(tree: ast.AST) -> Iterator[ast.expr]:
    """What assignments, loops, comprehensions and ``with`` set."""
    for node in nodes_of(tree, ast.Assign):
        yield from node.targets
    yield from (one.target for one in nodes_of(tree, *SET_ONE))
    yield from (one.optional_vars for one in nodes_of(tree, ast.withitem) if one.optional_vars)


@cache
def pattern() -> re.Pattern[str]:
    return re.compile(rf"(?i)(?<![\w-])(?:{'|'.join(map(re.escape, avoided()))})(?![\w-])")


def said_otherwise(text: str) -> list[str]:
    """The words of ``text`` that are not used."""
    found = {said.lower() for said in pattern().findall(" ".join(text.split()))}
    return [f"{word}: say {instead}" for word, instead in avoided().items() if word.lower() in found]


def test_no_docstring_and_no_message_says_it_otherwise() -> None:
    offenders = [
        f"{module}:{node.lineno}: {word}"
        for module, path in modules().items()
        for node in nodes_of(tree_of(path), ast.Constant)
        if isinstance(node.value, str) and " " in node.value
        for word in said_otherwise(node.value)
    ]
    assert offenders == []


def comments_of(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of lines; a ``#`` in a string is taken for one, too: no matter."""
    for number, line in enumerate(text.splitlines(), 1):
        code, hash_, comment = line.partition("#")
        if hash_ and (not code or code[-1].isspace()):
            yield number, comment


def test_no_comment_says_it_otherwise() -> None:
    offenders = [
        f"{module}:{number}: {word}"
        for module, path in modules().items()
        for number, comment in comments_of(path.read_text(encoding="utf-8"))
        for word in said_otherwise(comment)
    ]
    assert offenders == []


def text_of(page: Path) -> str:
    """Without the list itself."""
    return page.read_text(encoding="utf-8").partition(LIST)[0]


def test_no_page_and_no_help_says_it_otherwise() -> None:
    """The pages of ``docs/reference/`` hold all help texts, metrics and settings."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    offenders = [
        f"{page.relative_to(ROOT)}: {word}" for page in pages for word in said_otherwise(text_of(page))
    ]
    assert offenders == []
