from pathlib import Path

from debiasctl.files import write_json
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref
from debiasctl.sampling.description import FILE, Description, Origin
from debiasctl.sampling.request import SampleRequest


def test_samples_that_were_drawn_before_a_sampler_had_an_option_stay_readable(tmp_path: Path) -> None:
    """Their key is that of their own options, and no new request takes them for its own."""
    new = complete("samplers", parse_ref("unipc"))
    options = {name: value for name, value in new.options.items() if name != "lower_order_final"}
    old = new.model_copy(update={"options": options})

    def origin(choice):
        return Origin.of(SampleRequest(4, 10, choice, seed=0, step=3, weights="ema"), weights_sha256="0" * 64)

    stored = Description(**dict(origin(old)), classes=[], run="a", series=origin(old).series_key, nfe=10)
    write_json(tmp_path / FILE, stored.to_json())
    read = Description.read(tmp_path)
    assert read.sampler.options == options
    assert read == stored
    assert origin(old).key != origin(new).key
    assert read.sampler.create("samplers").options.lower_order_final == "auto"
