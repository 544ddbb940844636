"""The networks' parts, and the mathematics of codes: tensors in, tensors out.

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
- ``cdlm.model.maps``: Codes with places: encoder, decoder and discriminator of maps, and local
  contrast.
- ``cdlm.model.moments``: Means, deviations and divergences of modulated codes, computed on
  tensors.
- ``cdlm.model.codes``: The codes of a pair of images, plain and crossed, and the images that
  are drawn from them.
- ``cdlm.model.discrepancy``: Distances between two samples or distributions: moments, CORAL,
  maximum mean discrepancy, total variation.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
