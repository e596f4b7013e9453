"""Statistical downscaling: debias coarse images by optimal transport, then sample fine ones that agree with them."""
