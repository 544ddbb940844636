"""Cross-domain latent modulation, as taught in the book.

- ``cdlm.profile``: How much of a computation to run: seconds for tests, a minute for the book, hours for the paper's
  sizes.
- ``cdlm.plotting``: One style for all figures, and the few kinds of picture the book draws again and again.
- ``cdlm.gradients``: Gradient reversal: the identity forward, a change of sign backward.
- ``cdlm.modulation``: Maps into the transfer latent space: how one domain's code is modulated by the other's features.
- ``cdlm.losses``: Reconstruction, Kullback-Leibler, adversarial and consistency losses, with their reductions explicit.
- ``cdlm.nets``: Encoder with its three heads, decoder, discriminator, task classifier.
- ``cdlm.theory.equations``: What a derivation says of itself: number, kind, verdict, and the functions that compute it.
- ``cdlm.theory.symbols``: The symbols that all derivations share, normal densities and expectations by integration.
- ``cdlm.data.blend``: Domains made from others: digits blended into photographs.
- ``cdlm.data.domains``: What the domains are, where their images come from, and how they are split.
- ``cdlm.data.render``: Colored meshes drawn at any pose: a pinhole camera and a z-buffer over points.
- ``cdlm.data.sketch``: Drawings of photographs: pencil sketches by color dodge, edges by Canny.
- ``cdlm.data.bop``: LineMod in the layout of BOP: renders of its models, crops of its frames.
- ``cdlm.data.batches``: Mini-batches drawn on the device from images held as bytes.
- ``cdlm.methods.vae``: The variational autoencoder: one domain, no transfer.
- ``cdlm.methods.source``: Source-only training: the lower bound that adaptation has to beat.
- ``cdlm.methods.cdlm``: Cross-domain latent modulation: networks, objectives and who they reach.
- ``cdlm.training``: The loop: device, steps, log, and what stops it.
- ``cdlm.evaluation``: Accuracy through each path of the model, per class and overall.
- ``cdlm.theory.ledger``: The equation ledger: what was checked, how, and whether that is still so.
- ``cdlm.runs``: Runs on disk: configuration, metrics, weights, and records with their provenance.
- ``cdlm.cli``: The command line; it calls what the chapters define.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""

__version__ = "0.1.0"
