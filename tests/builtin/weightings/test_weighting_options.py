import pytest
from weighting_cases import make

from debiasctl import registry
from debiasctl.errors import PluginOptionsError, UsageError


@pytest.mark.parametrize(
    ("ref", "options"),
    [
        ("constant", {}),
        ("debiased", {}),
        ("p2", {"k": 1.0, "gamma": 1.0}),
        ("min-snr", {"gamma": 5.0}),
        ("soft-min-snr", {"gamma": 5.0}),
        ("edm", {"sigma_data": 0.5}),
        ("debiased-clamped", {"form": "eps", "max_snr": 1000.0}),
        ("onetrainer-v", {"scheme": "debiased", "max_snr": 1000.0, "gamma": 1.0}),
        ("constant-flow", {"min_s": 0.0}),
        ("v-pred-like", {"k": 0.5, "max_snr": 1000.0}),
        ("sigmoid", {"bias": 2.0, "measure": "log-snr"}),
        ("interpolate", {"p": 0.5, "p_end": None, "until": 1.0}),
    ],
)
def test_defaults_are_the_published_ones(ref: str, options: dict[str, object]) -> None:
    assert registry.resolve("weightings", ref).options.model_dump() == options


def test_a_nested_weighting_is_stored_whole() -> None:
    options = registry.resolve("weightings", "uncertainty").options.model_dump()
    base = options.pop("base")
    assert options == {"channels": 128, "learning_rate": 0.01}
    assert (base["name"], base["options"], base["distribution"]) == ("edm", {"sigma_data": 0.5}, "debiasctl")
    factors = registry.resolve("weightings", "product:factors=[p2,'min-snr:gamma=1']").options.model_dump()["factors"]
    assert [factor["options"] for factor in factors] == [{"k": 1.0, "gamma": 1.0}, {"gamma": 1.0}]


@pytest.mark.parametrize(
    "ref",
    [
        "p2:k=0", "p2:gamma=-0.1", "min-snr:gamma=0", "min-snr:gamma=nan", "debiased:gamma=1", "soft-min-snr:gamma=0",
        "edm:sigma_data=0", "debiased-clamped:form=x0", "debiased-clamped:max_snr=0", "sigmoid:measure=snr",
        "sigmoid:bias=inf", "interpolate:p=1.1", "interpolate:p_end=-0.1", "interpolate:p_end=1,until=0",
        "interpolate:p_end=1,until=1.1", "product", "product:factors=[]", "product:factors=[debiased],space=edm",
        "uncertainty:channels=0", "uncertainty:learning_rate=0", "onetrainer-v:scheme=min-snr", "v-pred-like:k=-1",
        "constant-flow:min_s=1",
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant(ref: str) -> None:
    with pytest.raises(PluginOptionsError):
        make(ref)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("interpolate:until=0.5", "until=0.5 has no effect without p_end"),
        ("onetrainer-v:gamma=2", "gamma has no effect with scheme=debiased; choose scheme=p2"),
        ("onetrainer-v:scheme=p2,max_snr=5", "max_snr has no effect with scheme=p2; choose scheme=debiased"),
        ("product:factors=[debiased,debias]", "unknown weighting 'debias'. Did you mean 'debiased'?"),
        ("uncertainty:base='p2:k=-1'", "weighting 'p2': k: input should be greater than 0 (given: -1)"),
        ("uncertainty:base=uncertainty", "its base 'uncertainty' is learned itself"),
        ("product:factors=[debiased,uncertainty]", "its factor 'uncertainty' is learned, but a product cannot be"),
        ("product:factors=['product:factors=[uncertainty]']", "its factor 'uncertainty' is learned"),
    ],
)
def test_refusals_say_why(ref: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(ref)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
