"""EDM2 (Karras et al., 2024, arXiv 2312.02696) as plugins for debiasctl, written from the paper's formulas."""
