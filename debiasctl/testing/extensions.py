"""What holds of extensions."""

from typing import Any

from debiasctl.boundary import origin_of
from debiasctl.specs.files import merge
from debiasctl.testing.laws import Broken, Laws, Subject, as_stored, described, same
from debiasctl.testing.tiny import TinyTraining, expect_exact_resume, tiny_training
from debiasctl.training.plain_state import plain_state

laws = Laws(may_lack=True)


def _settings(subject: Subject) -> dict[str, Any]:
    return merge(subject.more.get("settings", {}), {"extensions": [subject.reference()]})


def _trained(subject: Subject) -> TinyTraining:
    found: TinyTraining = subject.once("trained", lambda: tiny_training(_settings(subject)))
    return found


@laws.law("A training with it ends with finite weights, and with the tensors that the network had")
def _trains(subject: Subject) -> None:
    given = subject.more.get("settings", {})
    with_it, without = _trained(subject), tiny_training({**given, "extensions": []}, steps=1)
    before = {name: described(tensor) for name, tensor in without.network.state_dict().items()}
    after = {name: described(tensor) for name, tensor in with_it.network.state_dict().items()}
    if before != after:
        changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        raise Broken(f"the network's state_dict changed in {', '.join(changed[:3])}: no checkpoint would fit it")
    for which, network in (("the network", with_it.network), ("its average", with_it.averaged)):
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                raise Broken(f"{which} has NaN or infinity in {name} after {len(with_it.losses)} steps")


@laws.law("It works in a training of a single step")
def _single(subject: Subject) -> None:
    tiny_training(_settings(subject), steps=1)


@laws.law("Its state can be stored, and reading it changes nothing")
def _stored(subject: Subject) -> None:
    (extension, *_) = reversed(_trained(subject).extensions)
    first = _copied(extension)
    if not same(first, _copied(extension)):
        raise Broken("state_dict returned something else when it was called again")


@laws.law("Its state, loaded into another, is that other's state")
def _restored(subject: Subject) -> None:
    (extension, *_) = reversed(_trained(subject).extensions)
    state, other = _copied(extension), subject.make()
    other.load_state_dict(_copied(extension))
    if not same(_copied(other), state):
        raise Broken("after load_state_dict(state), state_dict returns something else")


@laws.law("A training with it that was killed and is resumed ends in the same bits as one that was not")
def _resumes(subject: Subject) -> None:
    expect_exact_resume(_settings(subject))


def _copied(extension: Any) -> Any:
    """The state as a checkpoint holds it."""
    return as_stored(plain_state(extension.state_dict(), origin_of(extension)))
