"""Cross-domain latent modulation, as taught in the book.

- ``cdlm.profiles``: How much of a computation to run: seconds for tests, a minute for the
  book, hours for the paper's sizes.
- ``cdlm.plotting``: One style for all figures, and the few kinds of picture the book draws
  again and again.
- ``cdlm.files``: Files written whole or not at all, and JSON read without trusting it.
- ``cdlm.shapes``: What the files of a run, and records, hold: checked whenever one is read.
- ``cdlm.provenance``: Where a number comes from: versions, the code's fingerprint, the
  revision, the hardware.
- ``cdlm.settings``: Settings of methods: checked against their annotations, composed of
  groups, flat on disk; and the images.
- ``cdlm.closure``: Which definitions a piece of code reaches, name by name, and their code
  without what changes no result.
- ``cdlm.model``: The networks' parts, and the mathematics of codes: tensors in, tensors out.
- ``cdlm.data``: Images as bytes: what a domain is, how files are found, read, kept, and fed to
  a network.
- ``cdlm.domains``: The domains of the experiments: digits, clothes, objects, faces, shoes, and
  any folder.
- ``cdlm.theory``: Every equation of the paper, derived with symbols and tied to the function
  that computes it.
- ``cdlm.methods``: What is trained: each method says who learns, and from which objective.
- ``cdlm.training``: How a method is trained: updates, the loop around them, and what survives
  a crash.
- ``cdlm.evaluation``: What a trained model is worth: accuracies, distances, intervals, and
  which snapshot to report.
- ``cdlm.runs``: A training as a folder that can be evaluated again, and records of several.
- ``cdlm.use``: What a stored run is good for: predictions, pictures, reports, exports.
- ``cdlm.measurements``: What stored runs and domains are like beyond their accuracy, as
  records for the chapters.
- ``cdlm.speed``: What things cost, in seconds and in arithmetic, and why.
- ``cdlm.experiments``: The paper's tables and figures: which runs are behind them, making
  those, and what came out.
- ``cdlm.widgets``: Things to turn: the moments of a code, the two terms of the bound, the
  strength of a reversal.
- ``cdlm.cli``: The command line; it calls what the chapters define.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "CDLM",
    "CDLMAdapter",
    "CDLMConfig",
    "DANN",
    "DANNConfig",
    "Loop",
    "Method",
    "RunSpec",
    "SourceOnly",
    "VAE",
    "elbo",
    "evaluate",
    "kl_divergence",
    "load",
    "load_domain",
    "modulate",
    "open_domain",
    "predict",
    "reparameterize",
    "reverse_gradient",
    "run",
    "train",
    "translate",
]

if TYPE_CHECKING:
    from cdlm.domains.catalog import open_domain
    from cdlm.domains.samples import load_domain
    from cdlm.methods.base import Method
    from cdlm.methods.cdlm import CDLM, CDLMConfig
    from cdlm.methods.dann import DANN, DANNConfig
    from cdlm.methods.source import SourceOnly
    from cdlm.methods.vae import VAE
    from cdlm.model.gradients import reverse_gradient
    from cdlm.model.losses import elbo, kl_divergence
    from cdlm.model.modulation import modulate, reparameterize
    from cdlm.runs.run import evaluate, run
    from cdlm.runs.spec import RunSpec
    from cdlm.training.loop import Loop, train
    from cdlm.use.estimator import CDLMAdapter
    from cdlm.use.hub import load
    from cdlm.use.prediction import predict_run as predict
    from cdlm.use.translation import translate_run as translate

_PLACES = {
    "CDLM": ("cdlm.methods.cdlm", "CDLM"),
    "CDLMAdapter": ("cdlm.use.estimator", "CDLMAdapter"),
    "CDLMConfig": ("cdlm.methods.cdlm", "CDLMConfig"),
    "DANN": ("cdlm.methods.dann", "DANN"),
    "DANNConfig": ("cdlm.methods.dann", "DANNConfig"),
    "Loop": ("cdlm.training.loop", "Loop"),
    "Method": ("cdlm.methods.base", "Method"),
    "RunSpec": ("cdlm.runs.spec", "RunSpec"),
    "SourceOnly": ("cdlm.methods.source", "SourceOnly"),
    "VAE": ("cdlm.methods.vae", "VAE"),
    "elbo": ("cdlm.model.losses", "elbo"),
    "evaluate": ("cdlm.runs.run", "evaluate"),
    "kl_divergence": ("cdlm.model.losses", "kl_divergence"),
    "load": ("cdlm.use.hub", "load"),
    "load_domain": ("cdlm.domains.samples", "load_domain"),
    "modulate": ("cdlm.model.modulation", "modulate"),
    "open_domain": ("cdlm.domains.catalog", "open_domain"),
    "predict": ("cdlm.use.prediction", "predict_run"),
    "reparameterize": ("cdlm.model.modulation", "reparameterize"),
    "reverse_gradient": ("cdlm.model.gradients", "reverse_gradient"),
    "run": ("cdlm.runs.run", "run"),
    "train": ("cdlm.training.loop", "train"),
    "translate": ("cdlm.use.translation", "translate_run"),
}


def __getattr__(name: str) -> object:
    """A name of ``__all__``, from the module that defines it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _PLACES[name]
    return getattr(import_module(module), original)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
