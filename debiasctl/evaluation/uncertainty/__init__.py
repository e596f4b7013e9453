"""How far a figure can be trusted: the jackknife, intervals, class counts."""
