"""GBNF texts: what they match, and mistakes in them."""

from __future__ import annotations

import pytest

from tilewright.errors import InvalidRequestError
from tilewright.text.grammar.analysis import checked
from tilewright.text.grammar.automaton import Automaton
from tilewright.text.grammar.gbnf import compile_gbnf

ARITHMETIC = r"""
# sums of products
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws   # a name
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"""


def accepts(text: str, data: str | bytes) -> bool:
    grammar = compile_gbnf(text, {"<|x|>": 7}.get)
    automaton = Automaton(grammar, checked(grammar, "grammar"))
    end = automaton.run(data.encode() if isinstance(data, str) else data)
    return end is not None and end.accepting


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (ARITHMETIC, ["a=1\n", "a+(b*2)=c\n", "x_1 -3 = y\n\nz=1\n"], ["a=\n", "(a=1\n", "=\n"]),
        ('root ::= "a" | "b"\n  | "c"', ["a", "b", "c"], ["d", ""]),
        ('root ::= [^"\\\\\\n]{2,3}', ["ab", "äöü", "日本"], ["a", "abcd", 'a"', "a\n"]),
        ('root ::= "\\x41" "\\u00e4" "\\U0001F600" .', ["Aä😀x", "Aä😀😀"], ["Aä😀"]),
        ('root ::= ("ab"?){2} x*\nx ::= "x"', ["", "ab", "ababxx"], ["ababab"]),
        ('root ::= "(" root ")" | ""', ["", "(())"], ["(()", ")"]),
        ('root ::= <|x|> "b" <[3]>', [b"\xff7\xffb\xff3\xff"], ["<|x|>b"]),
        ("root ::= [a-]+ [\\]x]", ["a-a]", "-x"], ["b]"]),
    ],
)
def test_texts(grammar: str, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert accepts(grammar, text), text
    for text in bad:
        assert not accepts(grammar, text), text


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("start ::= \"a\"", "no rule called root"),
        ('root ::= "a', "line 1.*not closed"),
        ('root ::= other', "'other', which is not defined"),
        ('root ::= root "a" | "b"', "left-recursive"),
        ('root ::= x "a"\nx ::= "c"? y\ny ::= root "b" | "d"', "left-recursive"),
        ('root ::= "a"\nroot ::= "b"', "line 2.*twice"),
        ('root ::= ("a"', "'\\)' is missing"),
        ('root ::= "a" root', "Nothing can satisfy"),
        ('root ::= "a"{3,2}', "out of order"),
        ('root ::= "a"{,}', "count"),
        ('root ::= [z-a]', "out of order"),
        ('root ::= "\\q"', "not known"),
        ("root ::= <|none|>", "no token"),
        ("root ::= " + "(" * 200 + '"a"' + ")" * 200, "nested"),
        ("root ::= ?", "not expected"),
        ('root ::= (("a" | "b" | "c" "d"){20000} "x"){20000}', "longer than"),
        ("root ::= " + "a" * 300_000, "longer than"),
    ],
)  # fmt: skip
def test_mistakes_are_named(grammar: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        accepts(grammar, "a")


def test_exponential_ambiguity_is_refused_or_followed_in_bounds() -> None:
    grammar = compile_gbnf('root ::= "a" root "x" | "a" root "y" | "b"')
    automaton = Automaton(grammar, checked(grammar, "grammar"))
    with pytest.raises(InvalidRequestError, match="ambiguous"):
        automaton.run(b"a" * 100)
