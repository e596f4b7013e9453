"""Plugins for debiasctl that import `debiasctl.api` alone."""
