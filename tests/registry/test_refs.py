from typing import Any

import pytest

from debiasctl.errors import ReferenceSyntaxError
from debiasctl.registry.refs import PluginRef, parse_ref


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("debiased", "debiased", {}),
        ("  debiased ", "debiased", {}),
        ("my.scheme_2-b", "my.scheme_2-b", {}),
        ("dpm-solver++:order=3", "dpm-solver++", {"order": "3"}),
        ("min-snr:gamma=5", "min-snr", {"gamma": "5"}),
        ("p2: k = 1 , gamma = 0.5 ", "p2", {"k": "1", "gamma": "0.5"}),
        ("p2:k=1e-3,gamma=-1", "p2", {"k": "1e-3", "gamma": "-1"}),
        ("unet:channel_mult=[1,2,2,2],dropout=0.1", "unet", {"channel_mult": [1, 2, 2, 2], "dropout": "0.1"}),
        ("x:a=[[1,2],[3]]", "x", {"a": [[1, 2], [3]]}),
        ("x:a=[one,two]", "x", {"a": ["one", "two"]}),
        ("x:a=[[one,two],null,'a, b']", "x", {"a": [["one", "two"], None, "a, b"]}),
        ('x:a=[1, 2.5, "three", true, null]', "x", {"a": [1, 2.5, "three", True, None]}),
        ("x:a=[]", "x", {"a": []}),
        ('x:a={"b":[1,2],"c":{"d":"e,f"}},g=h', "x", {"a": {"b": [1, 2], "c": {"d": "e,f"}}, "g": "h"}),
        ("folder:path='/a, b/c=d'", "folder", {"path": "/a, b/c=d"}),
        ('folder:path="it\'s"', "folder", {"path": "it's"}),
        (r"""x:a="say \"hi\" \\ there",b=1""", "x", {"a": 'say "hi" \\ there', "b": "1"}),
        ("x:a=f(1,2),b=3", "x", {"a": "f(1,2)", "b": "3"}),
        ("x:a=b=c", "x", {"a": "b=c"}),
        ("x:a=C:/data", "x", {"a": "C:/data"}),
        ("x:a=null,b='null',c=true", "x", {"a": None, "b": "null", "c": "true"}),
        ("x:a=''", "x", {"a": ""}),
    ],
)
def test_reads(text: str, name: str, options: dict[str, Any]) -> None:
    assert parse_ref(text) == PluginRef(name, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a plugin reference"),
        (":a=1", "is not a plugin reference"),
        ("-x", "is not a plugin reference"),
        ("two words", "is not a plugin reference"),
        ("+x", "is not a plugin reference"),
        ("a/b:c=1", "is not a plugin reference"),
        ("x:", "no options. Write 'x' or 'x:key=value'"),
        ("x:a", "'a' has no '='"),
        ("x:a=1,b", "'b' has no '='"),
        ("x:a=1,2", "'2' has no '='"),
        ("x:a=1,,b=2", "'' has no '='"),
        ("x:a=1,", "'' has no '='"),
        ("x:a=1,b=2,a=3", "option 'a' is given twice"),
        ("x:=1", "'' is not an option name"),
        ("x:1a=1", "'1a' is not an option name"),
        ("x:a b=1", "'a b' is not an option name"),
        ("x:a=", "an option has no value"),
        ("x:a=,b=1", "an option has no value"),
        ("x:a=[1,,2]", "an option has no value"),
        ("x:a=[1,2", "a bracket is left open"),
        ("x:a=f(1", "a bracket is left open"),
        ("x:a=[(1]", "closes nothing"),
        ("x:a=1]", "closes nothing"),
        ("x:a=[1]2]", "closes nothing"),
        ("x:a='b", "a quote is left open"),
        (r'x:a="b\"', "a quote is left open"),
        ("x:a='b'c", "quotes around 'b'c do not match"),
        ("x:a={b:1}", "cannot be read as a list or mapping"),
        ("x:a=[1]2", "cannot be read as a list or mapping"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ReferenceSyntaxError) as caught:
        parse_ref(text)
    assert message in str(caught.value)
    assert f"'{text}'" in str(caught.value)


TEXTS = [
    "plain", "null", "two words", " padded ", "a,b", "a=b", "it's", 'say "hi"', "back\\slash",
    "trailing\\", '\\"', "", "[1,2]",
    "[", "}", "(", "{", "tab\there", "line\nbreak", "süß", "C:\\dir, x\\", "'", '"', "true", "1e-05",
]  # fmt: skip


@pytest.mark.parametrize("value", TEXTS)
def test_text_survives_writing_and_reading(value: str) -> None:
    for ref in (PluginRef("x", {"a": value}), PluginRef("x", {"a": value, "b": [value, [value]], "c": {"d": value}})):
        assert parse_ref(str(ref)) == ref


@pytest.mark.parametrize("value", [None, [], [1, [2, None]], {"a": [True, "b,c"]}, {}])
def test_json_values_survive_writing_and_reading(value: Any) -> None:
    ref = PluginRef("x", {"a": value, "b": "1"})
    assert parse_ref(str(ref)) == ref


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (5, "5"), (1e-05, "1e-05"), ((1, 2), "[1,2]")]
)
def test_numbers_and_booleans_are_written_as_one_would(value: Any, text: str) -> None:
    assert str(PluginRef("x", {"a": value})) == f"x:a={text}"


def test_a_plugin_inside_another_is_written_as_one_would_and_read_again() -> None:
    """As a spec stores it: a mapping of name, options and origin, at any depth, alone or in a list."""

    def stored(name: str, **options: Any) -> dict[str, Any]:
        return {"name": name, "options": options, "distribution": "debiasctl", "version": "1.0"}

    inner = stored("p2", k=2.0, gamma=0.5)
    assert str(PluginRef("uncertainty", {"base": stored("edm"), "channels": 8})) == "uncertainty:base=edm,channels=8"
    text = str(PluginRef("product", {"factors": [stored("debiased"), inner], "space": "eps"}))
    assert text == 'product:factors=[debiased,"p2:k=2.0,gamma=0.5"],space=eps'
    assert parse_ref(text) == PluginRef("product", {"factors": ["debiased", "p2:k=2.0,gamma=0.5"], "space": "eps"})
    assert parse_ref('p:base="a:b=1"').options == {"base": "a:b=1"}
    for depth in range(1, 5):  # quotes within quotes
        ref = PluginRef("outer", {"base": inner, "note": 'a "b", c'})
        for _ in range(depth):
            ref = PluginRef(
                "outer", {"base": {"name": ref.name, "options": ref.options}, "x": [{"name": "a", "options": {}}]}
            )
        found = parse_ref(str(ref))
        for _ in range(depth):
            assert found.options["x"] == ["a"]
            found = parse_ref(found.options["base"])
        assert found == PluginRef("outer", {"base": "p2:k=2.0,gamma=0.5", "note": 'a "b", c'})


def test_a_name_alone_is_written_alone() -> None:
    assert str(PluginRef("debiased")) == "debiased"
