"""The model sources that come with debiasctl: trained networks from elsewhere, one format a file."""
