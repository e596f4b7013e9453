"""The parts of `debiasctl analyze`, one a module; `catalogue.PARTS` names them."""
