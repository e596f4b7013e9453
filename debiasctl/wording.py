"""Words and numbers in messages."""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST_WORD = 1_000  # characters
# what others call it, in small letters and with hyphens -> our names, of which a kind has one at most
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "epsilon": ("eps",), "noise": ("eps",), "eps-prediction": ("eps",), "noise-prediction": ("eps",),
    "v-prediction": ("v",), "velocity": ("v", "flow"), "v-pred": ("v",), "vpred": ("v",),
    "sample": ("x0",), "x-start": ("x0",), "xstart": ("x0",), "start-x": ("x0",), "x0-prediction": ("x0",),
    "image": ("x0",), "squaredcos-cap-v2": ("cosine",), "squaredcos": ("cosine",), "cos": ("cosine",),
    "karras": ("edm",), "gpu": ("cuda",), "nvidia": ("cuda",), "bf16-mixed": ("bf16",), "bf16-true": ("bf16",),
    "bfloat16": ("bf16",), "fp16-mixed": ("fp16",), "16-mixed": ("fp16",), "float16": ("fp16",), "half": ("fp16",),
    "16": ("fp16",), "float32": ("fp32",), "32": ("fp32",), "32-true": ("fp32",), "full": ("fp32",),
    "float": ("fp32",), "no": ("fp32", "none"), "off": ("none",), "raw": ("none",), "float64": ("fp64",),
    "double": ("fp64",), "simple": ("constant",), "uniform": ("uniform", "constant"), "l2": ("constant",),
    "min-snr-gamma": ("min-snr",), "minsnr": ("min-snr",), "debias": ("debiased",),
    "debiased-estimation": ("debiased",), "debiased-estimation-loss": ("debiased",), "p2-weighting": ("p2",),
    "dpmpp": ("dpm-solver++",), "dpm++": ("dpm-solver++",), "dpmsolver++": ("dpm-solver++",),
    "dpm-solver-pp": ("dpm-solver++",), "dpmsolver": ("dpm-solver",), "dpmsolver-multistep": ("dpm-solver++",),
    "fid": ("inception",), "inceptionv3": ("inception",), "inception-v3": ("inception",), "dino": ("dinov2",),
    "adm": ("unet",), "ddpm-unet": ("unet",), "transformer": ("dit",), "u-net": ("unet",),
}  # fmt: skip


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the known name that is another's word for it, or else the nearest; or nothing."""
    if len(name) > 100:  # comparing long texts takes long, and nobody mistypes so long a name
        return ""
    known = list(known)
    others = _SYNONYMS.get(name.strip().lower().replace("_", "-"), ())
    matches = [other for other in others if other in known] or [
        found for text in (name, name.lower()) for found in get_close_matches(text, known, n=1, cutoff=0.5)
    ]
    return f" Did you mean '{matches[0]}'?" if matches else ""


def format_bytes(count: float) -> str:
    """A number of bytes in MB or GB (powers of ten)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def printable(text: str, *, kept: str = "") -> str:
    """The text with escapes in place of what a terminal would act on or not show, but for the characters of `kept`.

    A file's or a run's name may hold any, and would otherwise move the cursor or hide what follows.
    """
    if text.isprintable():
        return text
    return "".join(
        one
        if one in kept or one.isprintable() or unicodedata.category(one) == "Zs"  # a space of another width
        else one.encode("unicode_escape").decode("ascii")
        for one in text
    )


def format_rate(speed: float) -> str:
    """A speed in so many digits as say something."""
    return f"{speed:,.3g}" if speed < 10 else f"{speed:,.0f}"


def format_duration(seconds: float) -> str:
    """Hours, where there are any, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counted(count: int, name: str) -> str:
    """`1 row`, `2 rows`: a number and what is counted, whose plural ends in s."""
    return f"{count:,} {name}{'s' * (count != 1)}"


def kind_of(value: object) -> str:
    """What a wrong argument is: `None`, `a str`, `an int`."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def quoted(text: object, *, mark: str = "'", limit: int = 120) -> str:
    """What was given, in quotes, at most `limit` characters of it; what a terminal would obey is escaped."""
    shown = printable(str(text)[: limit + 1])
    return f"{mark}{shown[: limit - 1]}…{mark}" if len(shown) > limit else f"{mark}{shown}{mark}"


def shortened(text: str) -> str:
    """A message with every word that no path or name is as long as cut, since what was given may be of any length."""
    return re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: f"{word[0][:120]}…", text)


def one_line(error: object, *, limit: int = 300) -> str:
    """An error's text in one line, at most `limit` characters of it."""
    return quoted(" ".join(str(error)[: 4 * limit].split()), mark="", limit=limit)
