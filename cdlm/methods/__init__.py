"""What is trained: each method says who learns, and from which objective.

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
- ``cdlm.methods.translation``: CDLM without a task: images of one domain drawn as images of
  the other.
- ``cdlm.methods.anchors``: What translations are compared with: a network that is told the
  answers, and an unpaired baseline.
- ``cdlm.methods.plain``: Encoder and classifier without a decoder: bounds, baseline and
  control of the experiments.
- ``cdlm.methods.backbone``: What methods on features share: an encoder, a classifier, and how
  they learn.
- ``cdlm.methods.cdan``: Conditional adversarial training: features that do not tell their
  domain, class by class.
- ``cdlm.methods.mcc``: Minimum class confusion: target predictions that do not waver between
  two classes.
- ``cdlm.methods.shot``: Source hypothesis transfer: a frozen classifier, and target features
  that suit it.
- ``cdlm.methods.adamatch``: AdaMatch: own labels, corrected for class shares and for how sure
  the source is.
- ``cdlm.methods.tpn``: Transferrable prototypical networks: class means that serve both
  domains.
- ``cdlm.methods.symmnets``: SymmNets-V2: a classifier with an answer for each class and
  domain.
- ``cdlm.methods.ilada``: ILA-DA: a contrastive loss between source images and their probable
  neighbors in the target.
- ``cdlm.methods.generators``: What draws and what judges drawings: a generator of images, a
  discriminator of patches, a pool.
- ``cdlm.methods.pixelda``: PixelDA: source images redrawn as target images, by a generator
  that the classifier corrects.
- ``cdlm.methods.gta``: Generate to Adapt: features of both domains from which source images
  can be drawn.
- ``cdlm.methods.cycada``: CyCADA: two generators that undo each other, and a classifier of
  what they draw.
- ``cdlm.methods.coupled``: What methods that draw in the hands of two domains share: coupled
  networks, and how they learn.
- ``cdlm.methods.unit``: UNIT: two variational autoencoders with one space of codes.
- ``cdlm.methods.cdrd``: CDRD: codes of which one part is the class.
- ``cdlm.methods.ecdrd``: E-CDRD: codes of images, of which one part is the class.
- ``cdlm.methods.datl``: DATL: decoders that exchange their halves.
- ``cdlm.methods.stargan``: StarGAN: one network that is told in the hand of which domain to
  draw.
- ``cdlm.methods.registry``: All methods by name, each with the class of its settings.

Generated from the chapters in book/src by `make sync`: edit there, not here.
"""
