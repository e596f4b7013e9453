"""Why a weighting helps: the weights that a scheme gives, as tables and pictures."""
