"""What an optimizer takes from a checkpoint."""

from tiny import make_spec, set_up_tiny

from debiasctl.training.state import capture, restore


def test_how_an_optimizer_computes_is_not_taken_from_a_checkpoint() -> None:
    """It is this machine's choice; what it computes is the checkpoint's."""
    spec = make_spec()
    saved, training = set_up_tiny(spec), set_up_tiny(spec)
    (own,) = training.optimizer.param_groups
    chosen = {name: own[name] for name in ("fused", "foreach", "capturable")}
    for group in saved.optimizer.param_groups:
        group.update(foreach=not chosen["foreach"], fused=not chosen["fused"], capturable=not chosen["capturable"])
        group["lr"] = 0.125
    state = capture(saved, step=0, progress={})
    assert state is not None
    restore(training, state)
    (own,) = training.optimizer.param_groups
    assert {name: own[name] for name in chosen} == chosen
    assert own["lr"] == 0.125
