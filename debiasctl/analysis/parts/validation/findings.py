"""What the figures of the part `validation` say, in plain sentences."""

from debiasctl.analysis.record import AnalysisRecord, Quantity

_WORDS = {
    "all": "Over all {pairs} pairs of points",
    "between": "Over the {pairs} pairs of different runs after equally many training images",
    "within": "Over the {pairs} pairs of checkpoints of one run",
}


def sentences(record: AnalysisRecord) -> list[str]:
    """The findings of a record, one a scope, the strictest comparison first."""
    runs, points = record.quantity("runs"), record.quantity("points")
    if runs is None or points is None:
        return []
    found = [
        _scope(record, scope, pairs)
        for scope in ("between", "within", "all")
        if (pairs := record.quantity(f"pairs[{scope}]")) is not None
    ]
    return [
        *found,
        f"Held-out errors were compared with {record.settings['metric']} at {points.value:.0f} checkpoints of "
        f"{runs.value:.0f} runs. A tau of 1 means that the lower error always has the better samples, and 0 that it "
        "tells nothing; the sampling error of the figure lowers every tau, and intervals are over runs.",
    ]


def taus_of(record: AnalysisRecord, scope: str, name: str = "tau") -> dict[str, Quantity]:
    """The taus of a scope by the name of the sum."""
    prefix = f"{name}[{scope},"
    return {
        one.name.removeprefix(prefix).removesuffix("]"): one for one in record.quantities if one.name.startswith(prefix)
    }


def _scope(record: AnalysisRecord, scope: str, pairs: Quantity) -> str:
    taus, leads = taus_of(record, scope), taus_of(record, scope, "tau_lead")
    best = max(taus, key=lambda name: taus[name].value)
    worst = min(taus, key=lambda name: taus[name].value)
    text = (
        f"{_WORDS[scope].format(pairs=f'{pairs.value:,.0f}')}, the sum that ranks best is {best}, with a tau of "
        f"{_interval(taus[best])}, and worst {worst}, with {_interval(taus[worst])}."
    )
    behind = [name for name, one in leads.items() if one.low is not None and one.low > 0]
    open_ones = [name for name in leads if name not in behind]
    if leads:
        told = f" It is better than {', '.join(behind)}" if behind else " It cannot be told from any other"
        rest = f"; it cannot be told from {', '.join(open_ones)}" if behind and open_ones else ""
        text += f"{told}{rest} (it was chosen after looking, so that its lead is flattered)."
    sure = [name for name, one in taus.items() if one.low is not None and one.low > 0]
    against = [name for name, one in taus.items() if one.high is not None and one.high < 0]
    if not sure and not against:
        text += " No sum is shown to tell anything here."
    if against:
        text += f" The lower error has the worse samples by {', '.join(against)}."
    return text


def _interval(one: Quantity) -> str:
    if one.low is None or one.high is None:
        return _two(one.value)
    return f"{_two(one.value)} (95 % interval {_two(one.low)} to {_two(one.high)})"


def _two(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
