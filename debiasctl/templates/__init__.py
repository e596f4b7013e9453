"""The packages that `debiasctl plugins new` writes: each kind's plugin and tests as they are for the name my-KIND."""
