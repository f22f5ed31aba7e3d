"""One key of shape letters: a letter that `array_types` does not explain means nothing."""

import ast
import re

from places import ROOT

from fv_jax import array_types

PACKAGE = ROOT / "fv_jax"
KEY = dict(re.findall(r"^    (\w+) +(\S.*)$", array_types.__doc__, re.MULTILINE))


def shapes(path):
    """The shapes of a file's annotations, such as "B T D" of `Float[Array, "B T D"]`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
            of, *rest = node.slice.elts
            shape = rest[0].value if isinstance(rest[0], ast.Constant) else None
            if isinstance(shape, str) and ast.unparse(of).endswith(("Array", "ndarray")):
                yield node.lineno, shape


def letters(shape):
    """Names of axes that are no whole word in small letters; `*b`, `_` and numbers are none."""
    names = (axis for axis in shape.split() if not axis.startswith("*"))
    every = {name for axis in names for name in re.findall(r"[A-Za-z]\w*", axis.lstrip("_#"))}
    return {name for name in every if len(name) == 1 or not name.islower()}


def test_every_letter_of_a_shape_stands_in_the_key():
    found = {
        (str(path.relative_to(PACKAGE)), line, letter)
        for path in PACKAGE.rglob("*.py")
        for line, shape in shapes(path)
        for letter in letters(shape)
    }
    unknown = sorted(use for use in found if use[2] not in KEY)
    assert not unknown, f"give each letter a line in array_types, or write a word: {unknown}"


def test_a_letter_that_is_not_in_the_key_is_noticed():
    assert letters("*b 3 _ tokens Q z K2 T+1 #R") == {"Q", "z", "K2", "T", "R"}
