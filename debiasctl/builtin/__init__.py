"""The built-in plugins, one folder per kind; they import only `debiasctl.api` and `debiasctl.diffusion`."""
