from debiasctl.compute.threads import wait_briefly


def test_what_the_user_has_set_stands() -> None:
    for given in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}):
        environment = dict(given)
        wait_briefly(environment)
        assert environment == given


def test_waiting_threads_sleep_soon() -> None:
    environment: dict[str, str] = {}
    wait_briefly(environment)
    assert int(environment["GOMP_SPINCOUNT"]) < 300_000  # libgomp's own
