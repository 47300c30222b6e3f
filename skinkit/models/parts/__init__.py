"""What papers share: the contract of a model, backbones, photo classifiers, losses and public weights."""
