"""Cross-domain latent modulation, as taught in the book.

- ``cdlm.closure``: Which definitions a piece of code reaches, name by name, and their code
  without what changes no result.
- ``cdlm.profile``: How much of a computation to run: seconds for tests, a minute for the book,
  hours for the paper's sizes.
- ``cdlm.plotting``: One style for all figures, and the few kinds of picture the book draws
  again and again.
- ``cdlm.settings``: Settings of methods: checked against their annotations, composed of
  groups, flat on disk; and the images.
- ``cdlm.gradients``: Who is reached by what: gradient reversal, a seam between two networks,
  gradients for some parameters only.
- ``cdlm.modulation``: Maps into the transfer latent space: how one domain's code is modulated
  by the other's features.
- ``cdlm.losses``: Reconstruction, Kullback-Leibler, adversarial and consistency losses, with
  their reductions explicit.
- ``cdlm.nets``: Encoder with its three heads, decoder, discriminator, task classifier.
- ``cdlm.moments``: Means and deviations of the modulated code, and its divergence from the
  prior, as tensors.
- ``cdlm.discrepancy``: Distances between two samples of features: moments, CORAL, maximum mean
  discrepancy.
- ``cdlm.theory.equations``: What a derivation says of itself: number, kind, verdict, and the
  functions that compute it.
- ``cdlm.theory.symbols``: The symbols that all derivations share, normal densities and
  expectations by integration.
- ``cdlm.theory.moments``: Eqs. 1-6: the modulated code and its moments.
- ``cdlm.theory.divergence``: Eqs. 7-10: divergence between two codes, before and after
  modulation.
- ``cdlm.theory.partial``: Eqs. 11-15: partial modulations, and what they do to the divergence.
- ``cdlm.theory.objective``: Eqs. 16-18 and 20-22: from the joint bound to the losses and the
  updates.
- ``cdlm.theory.alignment``: Eqs. 19 and 24: the adversarial term, its optimum, and what it
  measures.
- ``cdlm.theory.bound``: Eq. 23: the bound on the target error, and the distances between
  domains in it.
- ``cdlm.data.blend``: Domains made from others: digits blended into photographs.
- ``cdlm.data.domains``: What the domains are, where their images come from, and how they are
  split.
- ``cdlm.data.batches``: Mini-batches drawn on the device from images held as bytes.
- ``cdlm.data.archives``: Reading files of others without trusting them, and writing so that
  nobody reads a half.
- ``cdlm.data.cache``: Arrays made once and mapped into memory.
- ``cdlm.data.sources``: Where data come from: the order of the search, and downloads.
- ``cdlm.data.pictures``: Image files of every kind as bytes of one size.
- ``cdlm.data.recipes``: What a domain tells of itself, and the story of how it was got.
- ``cdlm.data.whole``: The whole sets of digits and clothes, plain and blended into
  photographs.
- ``cdlm.data.render``: Colored meshes drawn at any pose: a pinhole camera and a z-buffer over
  points.
- ``cdlm.data.sketch``: Drawings of photographs: pencil sketches by color dodge, edges by
  Canny.
- ``cdlm.data.bop``: LineMod in the layout of BOP: renders of its models, crops of its frames.
- ``cdlm.data.pairs``: Faces and their sketches, shoes and their edges.
- ``cdlm.data.catalog``: All domains by name, any folder as a domain, and what is there.
- ``cdlm.data.augment``: Random changes to a batch, in one pass on its device.
- ``cdlm.methods.base``: What a method tells the engine: who learns, from which objective.
- ``cdlm.methods.vae``: The variational autoencoder: one domain, no transfer.
- ``cdlm.methods.source``: Source-only training: the lower bound that adaptation has to beat.
- ``cdlm.methods.dann``: Domain-adversarial training: features that do not tell their domain.
- ``cdlm.methods.mcd``: Maximum classifier discrepancy: two classifiers that disagree, and
  features that make them agree.
- ``cdlm.methods.cdlm``: Cross-domain latent modulation: networks, objectives and who they
  reach.
- ``cdlm.methods.improved``: CDLM with what its training lacks: statistics by domain, a
  conditional discriminator, sure predictions.
- ``cdlm.methods.plain``: Encoder and classifier without a decoder: bounds, baseline and
  control of the experiments.
- ``cdlm.methods.registry``: All methods by name, each with the class of its settings.
- ``cdlm.processes``: Several processes that train one model: which slice is whose, and how
  they agree.
- ``cdlm.checkpoints``: The state of a training in one file, written whole or not at all, and
  read without trusting it.
- ``cdlm.training``: The engine: updates, precision, the loop, and what stops it.
- ``cdlm.evaluation``: Accuracy through each path of the model, confusion, distances, maps of
  features, intervals.
- ``cdlm.selection``: Which snapshot to report: rules that need no target label, and the
  oracle, kept apart from them.
- ``cdlm.theory.ledger``: The equation ledger: what was checked, how, and whether that is still
  so.
- ``cdlm.runs``: Runs on disk: configuration, metrics, weights, and records with their
  provenance.
- ``cdlm.paper``: What the paper reports: the numbers of its tables, for the rows that are run
  here.
- ``cdlm.plan``: From a table or a figure to the runs behind it: variants, tasks, seeds,
  profiles.
- ``cdlm.reproduce``: A queue of runs that can be cut off and taken up again, and a record of
  each.
- ``cdlm.results``: Records of many runs as the cells of the paper's tables.
- ``cdlm.tables``: Rows of a table from records: paired by seed, with an interval, a word, and
  the paper's number beside them.
- ``cdlm.verdicts``: Claims about tables as comparisons of records, and what the records say of
  each.
- ``cdlm.inside``: What a stored run draws and maps, as records: only images that may be
  printed.
- ``cdlm.shift``: How far domains are apart, on their pixels: distances, neighbors, shares, and
  the record of them.
- ``cdlm.bench``: What things cost, measured beside what others use.
- ``cdlm.speed``: What a training step costs, and why.
- ``cdlm.cli``: The command line; it calls what the chapters define.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""

__version__ = "0.1.0"
