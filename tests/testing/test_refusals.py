"""A refusal of what a plugin itself has given is a law that it breaks, and nothing that merely cannot be checked."""

import pytest

from debiasctl.templates.autoencoders import autoencoder
from debiasctl.testing import check_autoencoder


def test_an_autoencoder_has_to_restore_what_it_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder.PreparedHaar, "settings", lambda self: {})
    with pytest.raises(AssertionError, match=r"restore refused the state and settings .* no number of levels"):
        check_autoencoder(autoencoder.MyAutoencoder)
