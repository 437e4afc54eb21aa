"""The house: a module imports only lower floors and its own package, in no circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "likelax"

FLOORS = {
    0: "_pytree _checks _keys _extras _mesh _ode supports numerics",
    1: "bijectors samplers",
    2: "distributions",
    3: "heads networks conditional",
    4: "objective likelihood metrics",
    5: "sequence vae diffusion energy flows adversarial calibration posterior",
    6: "train plotting testing datasets",
    7: "__main__ tour",
    8: "__init__",
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
STRANGERS = 5  # on this floor, siblings never import one another

Module = tuple[str, ...]


def modules_of(package: Path) -> dict[Module, Path]:
    """Every module by its dotted name; a package by the name of its folder."""
    found = {}
    for path in package.rglob("*.py"):
        name = (package.name, *path.relative_to(package).with_suffix("").parts)
        found[name[:-1] if name[-1] == "__init__" else name] = path
    return found


def wanted(tree: ast.AST, name: Module, is_package: bool) -> Iterator[tuple[int, Module]]:
    """Each absolute name that is imported anywhere in the file, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = node.level - is_package
            base = name[: len(name) - above] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield node.lineno, (*module, alias.name)


def room_of(name: Module) -> str:
    return name[1] if len(name) > 1 else "__init__"


def climb(here: str, there: str) -> str | None:
    """What is wrong with the room `here` importing the room `there`."""
    if here == there:
        return None
    if here not in FLOOR or there not in FLOOR:
        return f"{here if here not in FLOOR else there} has no floor: add it to FLOORS"
    if FLOOR[there] > FLOOR[here]:
        return f"{here} (floor {FLOOR[here]}) imports {there} (floor {FLOOR[there]})"
    if FLOOR[there] == FLOOR[here] == STRANGERS:
        return f"{here} imports its sibling {there}"
    return None


def circles(edges: dict[Module, set[Module]]) -> Iterator[list[Module]]:
    """One circle for each import that closes one, by depth-first search."""
    done: set[Module] = set()

    def visit(module: Module, trail: list[Module]) -> Iterator[list[Module]]:
        if module in trail:
            yield [*trail[trail.index(module) :], module]
            return
        if module in done:
            return
        for other in sorted(edges.get(module, ())):
            yield from visit(other, [*trail, module])
        done.add(module)

    for module in sorted(edges):
        yield from visit(module, [])


def broken_rules(package: Path) -> list[str]:
    """Everything in the tree that breaks a rule of the house, in words."""
    modules = modules_of(package)
    problems = []
    edges: dict[Module, set[Module]] = {}
    for name, path in sorted(modules.items()):
        where = path.relative_to(package.parent)
        tree = ast.parse(path.read_text())
        for line, target in wanted(tree, name, path.name == "__init__.py"):
            if target[0] == "flax" and where.name != "networks.py":
                problems.append(f"{where}:{line}: only networks.py imports flax")
            if target[0] != package.name:
                continue
            if len(target) > 1 and target[:2] in modules:
                problem = climb(room_of(name), target[1])
                if problem:
                    problems.append(f"{where}:{line}: {problem}")
            elif room_of(name) != "__init__":
                problems.append(f"{where}:{line}: imports the package itself: name the module")
            found = next(
                (target[:n] for n in range(len(target), 0, -1) if target[:n] in modules), name
            )
            # A package's __init__ and the modules that it gathers are one room: `from . import x`
            # inside it is no circle.
            if found != name and name[: len(found)] != found:
                edges.setdefault(name, set()).add(found)
    problems += [
        "circle: " + " -> ".join(".".join(module) for module in circle) for circle in circles(edges)
    ]
    return problems


def test_likelax_keeps_its_floors():
    assert PACKAGE.is_dir()
    assert not broken_rules(PACKAGE)


def test_every_room_has_a_floor():
    rooms = {room_of(name) for name in modules_of(PACKAGE)}
    assert rooms <= set(FLOOR), f"add to FLOORS: {sorted(rooms - set(FLOOR))}"


VIOLATIONS = {
    "a climb": (
        {"supports.py": "from .heads import Head", "heads.py": ""},
        "supports.py:1: supports (floor 0) imports heads (floor 3)",
    ),
    "a climb inside a function": (
        {
            "numerics/gamma.py": "def f():\n    from likelax.train import fit",
            "train/__init__.py": "",
        },
        "numerics/gamma.py:2: numerics (floor 0) imports train (floor 6)",
    ),
    "a climb by a plain import": (
        {"heads.py": "import likelax.metrics", "metrics.py": ""},
        "heads.py:1: heads (floor 3) imports metrics (floor 4)",
    ),
    "a sibling": (
        {"vae/elbo.py": "from ..flows import Flow", "flows/__init__.py": ""},
        "vae/elbo.py:1: vae imports its sibling flows",
    ),
    "a circle in one room": (
        {
            "distributions/a.py": "from .b import B",
            "distributions/b.py": "def f():\n    from .a import A",
        },
        "circle: likelax.distributions.a -> likelax.distributions.b -> likelax.distributions.a",
    ),
    "flax": ({"heads.py": "from flax import nnx"}, "heads.py:1: only networks.py imports flax"),
    "the package itself": (
        {"heads.py": "import likelax as lx", "__init__.py": ""},
        "heads.py:1: imports the package itself",
    ),
    "a room without a floor": (
        {"heads.py": "from .attic import x", "attic.py": ""},
        "heads.py:1: attic has no floor",
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_reported(name, tmp_path):
    files, message = VIOLATIONS[name]
    problems = broken_rules(_write(tmp_path, files))
    assert any(message in problem for problem in problems), problems


def test_what_is_allowed_is_not_reported(tmp_path):
    files = {
        "__init__.py": "from .heads import Head\nfrom .vae import ELBO",
        "supports.py": "import jax",
        "numerics/__init__.py": "from .gamma import f\nfrom . import gamma",
        "numerics/gamma.py": "from ..supports import positive",
        "heads.py": "from .networks import adapt\nfrom likelax import supports",
        "networks.py": "from flax import nnx\nfrom .numerics import gamma",
        "vae/__init__.py": "from .elbo import ELBO",
        "vae/elbo.py": "from ._base import Base\nfrom ..heads import Head",
        "vae/_base.py": "",
    }
    assert broken_rules(_write(tmp_path, files)) == []


def _write(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "likelax"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return package
