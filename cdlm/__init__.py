"""Cross-domain latent modulation, as taught in the book.

- ``cdlm.profiles``: How much of a computation to run: seconds for tests, a minute for the
  book, hours for the paper's sizes.
- ``cdlm.plotting``: One style for all figures, and the few kinds of picture the book draws
  again and again.
- ``cdlm.files``: Files written whole or not at all, and JSON read without trusting it.
- ``cdlm.provenance``: Where a number comes from: versions, the code's fingerprint, the
  revision, the hardware.
- ``cdlm.settings``: Settings of methods: checked against their annotations, composed of
  groups, flat on disk; and the images.
- ``cdlm.closure``: Which definitions a piece of code reaches, name by name, and their code
  without what changes no result.
- ``cdlm.model.gradients``: Who is reached by what: gradient reversal, a seam between two
  networks, gradients for some parameters only.
- ``cdlm.model.modulation``: Maps into the transfer latent space: how one domain's code is
  modulated by the other's features.
- ``cdlm.model.losses``: Reconstruction, Kullback-Leibler, adversarial and consistency losses,
  with their reductions explicit.
- ``cdlm.model.normalization``: Normalization that knows its domain, or takes a batch in
  chunks.
- ``cdlm.model.networks``: Encoder with its three heads, decoder, discriminator, task
  classifier.
- ``cdlm.model.moments``: Means, deviations and divergences of modulated codes, computed on
  tensors.
- ``cdlm.model.codes``: The codes of a pair of images, plain and crossed, and the images that
  are drawn from them.
- ``cdlm.model.discrepancy``: Distances between two samples or distributions: moments, CORAL,
  maximum mean discrepancy, total variation.
- ``cdlm.data.archives``: Reading files of others without trusting them, and writing so that
  nobody reads a half.
- ``cdlm.data.cache``: Arrays made once and mapped into memory.
- ``cdlm.data.search``: Where data come from: the order of the search, and downloads.
- ``cdlm.data.domain``: What a domain is: its splits, its classes, what it tells of itself, and
  what to say when it is missing.
- ``cdlm.data.batches``: Mini-batches drawn on the device from images held as bytes.
- ``cdlm.data.augment``: Random changes to a batch, in one pass on its device.
- ``cdlm.data.pictures``: Image files of every kind as bytes of one size.
- ``cdlm.domains.blend``: Domains made from others: digits blended into photographs.
- ``cdlm.domains.samples``: The digits that come with packages, whole domains in seconds and
  without a network.
- ``cdlm.domains.digits``: The whole sets of digits and clothes, plain and blended into
  photographs.
- ``cdlm.domains.render``: Colored meshes drawn at any pose: a pinhole camera and a z-buffer
  over points.
- ``cdlm.domains.sketch``: Drawings of photographs: pencil sketches by color dodge, edges by
  Canny.
- ``cdlm.domains.linemod``: LineMod in the layout of BOP: renders of its models, crops of its
  frames.
- ``cdlm.domains.drawn``: Faces and their sketches, shoes and their edges.
- ``cdlm.domains.catalog``: All domains by name, any folder as a domain, and what is there.
- ``cdlm.theory.equations``: What a derivation says of itself: number, kind, verdict, and the
  functions that compute it.
- ``cdlm.theory.symbols``: The symbols that all derivations share, normal densities and
  expectations by integration.
- ``cdlm.theory.moments``: Eqs. 1-6: the modulated code and its moments.
- ``cdlm.theory.divergence``: Eqs. 7-10: divergence between two codes, before and after
  modulation.
- ``cdlm.theory.partial``: Eqs. 11-15: partial modulations, and what they do to the divergence.
- ``cdlm.theory.joint_bound``: Eqs. 16-18: the joint bound, and what it bounds.
- ``cdlm.theory.updates``: Eqs. 20-22: from the bound to the losses and the updates.
- ``cdlm.theory.alignment``: Eqs. 19 and 24: the adversarial term, its optimum, and what it
  measures.
- ``cdlm.theory.bound``: Eq. 23: the bound on the target error, and the distances between
  domains in it.
- ``cdlm.theory.ledger``: The equation ledger: what was checked, how, and whether that is still
  so.
- ``cdlm.methods.base``: What a method tells the engine: who learns, from which objective.
- ``cdlm.methods.parts``: Pieces that several methods share: a conditional discriminator,
  learning from sure predictions.
- ``cdlm.methods.source``: Source-only training: the lower bound that adaptation has to beat.
- ``cdlm.methods.dann``: Domain-adversarial training: features that do not tell their domain.
- ``cdlm.methods.mcd``: Maximum classifier discrepancy: two classifiers that disagree, and
  features that make them agree.
- ``cdlm.methods.vae``: The variational autoencoder: one domain, no transfer.
- ``cdlm.methods.cdlm``: Cross-domain latent modulation: networks, objectives and who they
  reach.
- ``cdlm.methods.improved``: CDLM with what its training lacks: statistics by domain, a
  conditional discriminator, sure predictions.
- ``cdlm.methods.plain``: Encoder and classifier without a decoder: bounds, baseline and
  control of the experiments.
- ``cdlm.methods.registry``: All methods by name, each with the class of its settings.
- ``cdlm.training.team``: Several processes that train one model: which slice is whose, and how
  they agree.
- ``cdlm.training.checkpoints``: The state of a training in one file, written whole or not at
  all, and read without trusting it.
- ``cdlm.training.engine``: One update: optimizers, precision, gradients, and the networks'
  forward pass, shared or whole.
- ``cdlm.training.watch``: What stops a training: a loss that is lost, or somebody who
  interrupts.
- ``cdlm.training.loop``: The loop: steps from the first, or from the last checkpoint, to the
  end.
- ``cdlm.evaluation.statistics``: Statistics of a few numbers: intervals, regressions, tests of
  a shape.
- ``cdlm.evaluation.accuracy``: What a classifier gets right, and which classes it takes for
  which.
- ``cdlm.evaluation.readouts``: The ways to read one model: from images, codes, translations,
  features.
- ``cdlm.evaluation.distances``: How far apart the domains are in a model's features, and a map
  of them.
- ``cdlm.evaluation.selection``: Which snapshot to report: rules that need no target label, and
  the oracle, kept apart from them.
- ``cdlm.runs.spec``: Everything that a run follows from, and the data and the method that it
  asks for.
- ``cdlm.runs.folder``: Where a run lives: a folder that is worked in alone, and has its name
  when it is whole.
- ``cdlm.runs.run``: Running, storing, reading back and measuring again.
- ``cdlm.runs.record``: Records of runs that differ in their seed only, and how chapters read
  them.
- ``cdlm.measurements.moments``: The moments of modulated codes, as the theory predicts them
  and as stored runs have them.
- ``cdlm.measurements.stored``: Stored runs that a measurement reads.
- ``cdlm.measurements.drawings``: What a stored run draws, as records: only images that may be
  printed.
- ``cdlm.measurements.maps``: Where a stored run puts images, and which classes it takes for
  which, as records.
- ``cdlm.measurements.shift``: How far domains are apart, on their pixels: distances,
  neighbors, shares, and the record of them.
- ``cdlm.speed.feeding``: What it costs to feed a network, beside what others use.
- ``cdlm.speed.ways``: One training step in many ways.
- ``cdlm.speed.arithmetic``: How many multiplications a step takes, counted by formula and by
  running it.
- ``cdlm.speed.machine``: What a machine could do, and where the time of a step goes.
- ``cdlm.speed.ladder``: What a training step costs, way by way, and how that grows.
- ``cdlm.speed.race``: Seconds to an accuracy, beside other libraries.
- ``cdlm.experiments.paper``: What the paper reports: the numbers of its tables, for the rows
  that are run here.
- ``cdlm.experiments.plan``: From a table or a figure to the runs behind it: variants, tasks,
  seeds, profiles.
- ``cdlm.experiments.record``: What is measured of a run of an experiment, and its record.
- ``cdlm.experiments.queue``: A queue of runs that can be cut off and taken up again.
- ``cdlm.experiments.results``: Records of many runs as the cells of the paper's tables.
- ``cdlm.experiments.tables``: Rows of a table from records: paired by seed, with an interval,
  a word, and the paper's number beside them.
- ``cdlm.experiments.claims``: Claims about tables as comparisons of records, and what the
  records say of each.
- ``cdlm.cli.common``: What all commands share: errors in one line, devices, settings.
- ``cdlm.cli.train``: Commands that train, evaluate and record runs.
- ``cdlm.cli.data``: Commands about domains and their files.
- ``cdlm.cli.bench``: Commands that measure what things cost.
- ``cdlm.cli.experiments``: Commands that measure stored runs, reproduce tables, and show them.
- ``cdlm.cli.app``: The program `cdlm`: all commands, and where it begins.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "CDLM",
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
    "reparameterize",
    "reverse_gradient",
    "run",
    "train",
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
    from cdlm.runs.run import load_run as load
    from cdlm.runs.spec import RunSpec
    from cdlm.training.loop import Loop, train

_PLACES = {
    "CDLM": ("cdlm.methods.cdlm", "CDLM"),
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
    "load": ("cdlm.runs.run", "load_run"),
    "load_domain": ("cdlm.domains.samples", "load_domain"),
    "modulate": ("cdlm.model.modulation", "modulate"),
    "open_domain": ("cdlm.domains.catalog", "open_domain"),
    "reparameterize": ("cdlm.model.modulation", "reparameterize"),
    "reverse_gradient": ("cdlm.model.gradients", "reverse_gradient"),
    "run": ("cdlm.runs.run", "run"),
    "train": ("cdlm.training.loop", "train"),
}


def __getattr__(name: str) -> object:
    """A name of ``__all__``, from the module that defines it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, original = _PLACES[name]
    return getattr(import_module(module), original)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
