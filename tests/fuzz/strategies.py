"""Hostile values and damaged files, as Hypothesis draws them."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

# What people type by mistake, shells expand to nothing, and files hold that were made to do harm.
HOSTILE_TEXTS = ("", " ", "0", "1", "2", "3", "-1", "-0", "+1", "1.5", "1e3", "1e400", "-1e400", "nan", "inf",
    "-inf", "NaN", "null", "none", "None", "true", "yes", "on", "0x10", "1_000", "٣", "10" * 15, "9" * 400,
    "1" + "0" * 30, "--", "-", ".", "..", "/", "~", "~nosuchuser/x", "$HOME", "*", "a,b", ",", ",,", "a=b", "a:",
    ":", "a:b=c", "a:b", "[", "]", "[]", "{}", "[" * 400, "{" * 400, "[" * 5_000, '"', "'", "\\", "a\x00b",
    "\x1b[31mred", "line\nline", "\r", "\t", "é", "\u202egnp", "\ufeff", "💥", "\udcff", "a" * 300, "a/" * 300,
    "x.pdf", "nodir/x.csv", "/dev/null", "/dev/full", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/etc/passwd",
    "constant", "debiased", "min-snr:gamma=5", "min-snr:gamma=0", "min-snr:gamma=-1", "min-snr:gamma=nan",
    "min-snr:gamma=[", "debias", "digits", "cuda", "cuda:99", "mps", "bf16", "fp16", "eps", "v", "latest", "last",
    "ema", "raw", "ema:0.1", "ema:1e-300", "all", "1,2,3", "3,2", "2,2", "1-3", "-5,2", "0.5", "1e-300",)  # fmt: skip
SMALL_OR_ABSURD = st.one_of(st.integers(-3, 3), st.integers(10**12, 10**40), st.integers(-(10**40), -(10**12)))

texts = st.one_of(
    st.sampled_from(HOSTILE_TEXTS),
    SMALL_OR_ABSURD.map(str),
    st.floats().map(repr),
    st.text(max_size=30),
    st.text(alphabet="abc019:=,[]{}()'\"\\ .-_+~\x00\n", max_size=40),
)
arguments = texts.filter(lambda text: "\x00" not in text)  # the system passes no NUL in an argument

scalars = st.one_of(
    st.none(),
    st.booleans(),
    SMALL_OR_ABSURD,
    st.floats(),
    st.sampled_from((1e200, -1e200, 1e308, 5e-324, -0.0, 2**63, -(2**63), 2**31)),
    st.sampled_from(HOSTILE_TEXTS),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
deep = st.integers(100, 100_000).map(lambda depth: "[" * depth + "]" * depth)


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, the value itself first."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths_of(inner, (*path, key))
    return found


def with_change(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of a JSON value in which `change` was done to the container and key at `path`."""
    copy = json.loads(json.dumps(value))
    container = copy
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return copy


@st.composite
def changed_json(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with a place or a few set to something else, removed, added to, or moved."""
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        places = [path for path in paths_of(value) if path]
        if not places:
            return draw(values)
        path = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(("set", "set", "set", "remove", "add", "swap")))
        new = draw(values)

        def change(container: Any, key: Any, kind: str = kind, new: Any = new) -> None:
            if kind == "remove":
                del container[key]
            elif kind == "add" and isinstance(container, dict):
                container["zzz"] = new
            elif kind == "add":
                container.append(new)
            elif kind == "swap" and isinstance(container, dict):
                container[str(key).upper()] = container.pop(key)
            else:
                container[key] = new

        try:
            value = with_change(value, path, change)
        except (ValueError, UnicodeEncodeError):
            return value
    return value


@st.composite
def json_text(draw: st.DrawFn, value: Any) -> str:
    """The text of a changed JSON value, now and then with doubled keys, a mark of byte order, or cut short."""
    text = json.dumps(draw(changed_json(value)))
    how = draw(
        st.sampled_from(("plain", "plain", "plain", "plain", "doubled", "bom", "cut", "deep", "nan", "trailing"))
    )
    if how == "doubled" and text.startswith("{") and len(text) > 2:
        text = "{" + text[1:-1] + "," + text[1:]
    elif how == "bom":
        text = "\ufeff" + text
    elif how == "cut":
        text = text[: draw(st.integers(0, len(text)))]
    elif how == "deep":
        text = text[:-1] + ', "deep": ' + draw(deep) + "}"
    elif how == "nan":
        text = text.replace("0", draw(st.sampled_from(("NaN", "Infinity", "-Infinity", "1e999"))), 1)
    elif how == "trailing":
        text += draw(st.sampled_from(("\x00", "{}", "\n\n", "]")))
    return text


@st.composite
def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes of a file, flipped, cut, filled, or inserted into; headers more often than the rest."""
    content = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        if not content:
            break
        near = draw(st.booleans())
        at = draw(st.integers(0, min(len(content) - 1, 600 if near else len(content) - 1)))
        kind = draw(st.sampled_from(("flip", "flip", "set", "set", "cut", "insert", "remove", "fill", "number")))
        if kind == "flip":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            content[at] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)))
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "remove":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "fill":
            length = draw(st.integers(1, 64))
            content[at : at + length] = bytes([draw(st.sampled_from((0, 0xFF, 0x20)))]) * len(content[at : at + length])
        else:
            form = draw(st.sampled_from(("<I", ">I", "<Q", ">Q", "<H", ">H")))
            number = draw(
                st.sampled_from((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
            )
            size = struct.calcsize(form)
            content[at : at + size] = struct.pack(form, number % 2 ** (8 * size))[: len(content[at : at + size])]
    return bytes(content)


def npy_bytes(header: str, data: bytes = b"") -> bytes:
    """A .npy file with any header."""
    text = header.encode("latin1", "replace")
    padded = text + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded) % 2**16) + padded + data


def zip_bytes(members: Mapping[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@st.composite
def npy_members(draw: st.DrawFn) -> bytes:
    """An array as .npy: an honest one of any type and small shape, or a header that lies."""
    if draw(st.booleans()):
        dtype = draw(
            st.sampled_from(("u1", "u1", "u1", "i1", "<u2", "<i8", "<f4", "<f8", "?", "<c8", "<U3", "S2", "<M8[s]"))
        )
        shape = tuple(draw(st.lists(st.integers(0, 9), max_size=5)))
        square = draw(st.booleans())
        if square:
            side = draw(st.integers(1, 16))
            shape = (draw(st.integers(0, 4)), side, side, draw(st.sampled_from((1, 3, 2, 4))))
        array = np.zeros(shape, dtype=dtype)
        if array.size and array.dtype.kind in "uif":
            array.flat[0] = draw(st.sampled_from((0, 1, 7, 100)))
        if array.size and array.dtype.kind == "f":
            array.flat[-1] = draw(st.sampled_from((0.5, np.nan, np.inf, 1e200)))
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        return buffer.getvalue()
    shape_text = draw(
        st.sampled_from(
            (
                "(1000000000000, 32, 32, 3)",
                "(2, 8, 8, 3)",
                "(-1, 8, 8, 3)",
                "()",
                "(10,)",
                "3",
                "('a',)",
                "(1e3,)",
                "(" * 90,
                "(9223372036854775807,)",
            )
        )
    )
    descr = draw(
        st.sampled_from(
            (
                "'|u1'",
                "'<f8'",
                "'|O'",
                "'\\ud800'",
                "'|V1000000000'",
                "[('a', '<f8')]",
                "None",
                "'u1",
                "__import__('os')",
            )
        )
    )
    order = draw(st.sampled_from(("False", "True", "2", "'x'")))
    extra = draw(st.sampled_from(("", "", "'x': 1, ")))
    return npy_bytes(
        f"{{'descr': {descr}, 'fortran_order': {order}, {extra}'shape': {shape_text}, }}", draw(st.binary(max_size=256))
    )
