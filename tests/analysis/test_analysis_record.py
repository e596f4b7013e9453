"""Records of an analysis."""

from debiasctl.analysis.record import Network, key_of


def network(**changes: object) -> Network:
    made = {
        "run": "a", "run_identity": "1", "arm": "debiased", "checkpoint": 4, "weights": "ema", "weights_sha256": "0",
    }  # fmt: skip
    return Network.model_validate(made | changes)


def key(one: Network, other: Network) -> str:
    return key_of("existence", one, [other], content_hash="c", settings={})


def test_a_record_is_found_again_where_its_run_is_called_otherwise() -> None:
    assert key(network(), network()) == key(network(run="b", arm="debiased lr=1"), network(arm="other"))
    assert key(network(), network()) != key(network(checkpoint=5), network())
    assert key(network(), network()) != key(network(), network(weights_sha256="1"))
