"""What each kind's methods return, checked where it crosses the boundary.

A contract makes the call itself, `contract(call, plugin, *args)`, so that it can look at the arguments too.
"""

from collections.abc import Callable, Mapping
from typing import Any

from debiasctl.registry.contracts import (
    autoencoders,
    datasets,
    engines,
    extensions,
    features,
    models,
    networks,
    weights,
)
from debiasctl.registry.contracts.expected import Call, a_flag, a_mapping, a_rate

CLASSES: Mapping[str, Callable[[Any], None]] = {
    "Autoencoder": autoencoders.autoencoder_class,
    "Features": features.features_class,
}
CONTRACTS: Mapping[tuple[str, str], Call] = {
    ("Dataset", "info"): datasets.info,
    ("Dataset", "load"): datasets.load,
    ("Dataset", "problems"): datasets.problems,
    ("Dataset", "recommended"): datasets.recommended,
    ("Dataset", "stored_sizes"): datasets.stored_sizes,
    ("Autoencoder", "latent_shape"): autoencoders.latent_shape,
    ("Autoencoder", "prepare"): autoencoders.prepare,
    ("Autoencoder", "restore"): autoencoders.prepare,
    ("PreparedAutoencoder", "state"): autoencoders.state,
    ("PreparedAutoencoder", "settings"): autoencoders.settings,
    ("PreparedAutoencoder", "scale"): autoencoders.scale,
    ("PreparedAutoencoder", "encode"): autoencoders.values,
    ("PreparedAutoencoder", "decode"): autoencoders.values,
    ("Backbone", "build"): networks.build,
    ("Backbone", "resolve_options"): networks.resolve_options,
    ("Backbone", "set_memory_format"): networks.set_memory_format,
    ("Weighting", "space"): weights.space,
    ("Weighting", "__call__"): weights.weights,
    ("Weighting", "at"): weights.at,
    ("Weighting", "learned"): networks.learned,
    ("Schedule", "alphas_cumprod"): weights.alphas_cumprod,
    ("Schedule", "log_snr"): weights.log_snr,
    ("Schedule", "resolve_options"): networks.resolve_options,
    ("TimestepDistribution", "probabilities"): weights.probabilities,
    ("TimestepDistribution", "base"): weights.probabilities,
    ("TimestepDistribution", "spread"): weights.spread,
    ("TimestepDistribution", "state_dict"): a_mapping,
    ("Extension", "learning_rate"): a_rate,
    ("Extension", "state_dict"): a_mapping,
    ("Extension", "summary"): extensions.summary,
    ("Extension", "reconstructed"): extensions.reconstructed,
    ("ModelSource", "read"): models.read,
    ("ModelSource", "write"): models.write,
    ("Engine", "run"): engines.run,
    ("Sampler", "__call__"): networks.sample,
    ("Sampler", "grid"): networks.grid,
    ("Features", "prepare"): features.prepare,
    ("Features", "metric_names"): features.metric_names,
    ("PreparedFeatures", "__call__"): features.features,
    ("PreparedFeatures", "logits"): features.other_rows,
    ("PreparedFeatures", "spatial"): features.other_rows,
    ("PreparedFeatures", "parts"): features.parts,
    ("PreparedFeatures", "offers"): features.offers,
    ("PreparedFeatures", "notes"): features.notes,
    **{
        (base, name): a_flag
        for base, names in {
            "Weighting": ("varies", "is_learned"),
            "TimestepDistribution": ("corrected", "varies", "observes"),
            "PreparedFeatures": ("verified",),
        }.items()
        for name in names
    },
}
