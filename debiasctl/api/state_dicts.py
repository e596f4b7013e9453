"""Files of a network's tensors from anywhere: reading them without running code, and comparing them with a network."""

from debiasctl.reading.state_dicts import read_state_dict, state_dict_differences

__all__ = ["read_state_dict", "state_dict_differences"]
