import pytest

from debiasctl.wording import did_you_mean, format_bytes, printable


@pytest.mark.parametrize(
    "count, text", [(0, "0.0 MB"), (999_900_000, "999.9 MB"), (1.5e9, "1.5 GB"), (2e12, "2000.0 GB")]
)
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    "name, text", [("debias", " Did you mean 'debiased'?"), ("min_snr", " Did you mean 'min-snr'?"), ("zzz", "")]
)
def test_the_nearest_known_name_is_suggested(name: str, text: str) -> None:
    assert did_you_mean(name, ["constant", "debiased", "min-snr"]) == text


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain é 漢字 🙂\nnext\tline", "plain é 漢字 🙂\nnext\tline"),
        ("a\x1b[2Jb\rc\x07\x9b", r"a\x1b[2Jb\rc\x07\x9b"),
        ("txt\u202egnp", r"txt\u202egnp"),
        ("\udcff", r"\udcff"),
        ("a\u3000b\xa0c\u2028", "a\u3000b\xa0c" + r"\u2028"),  # spaces of a width of their own, and a line separator
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text, kept="\n\t") == shown
    assert printable(shown) == shown.replace("\n", r"\n").replace("\t", r"\t")
