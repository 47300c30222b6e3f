"""The radiomic signature: how it is chosen, how stable that is, and how far it depends on who drew the outline.

``selection`` chooses features by Welch's t-test, ``stability`` chooses again on drawn patients, ``reliability``
compares the features of two outlines of the same lesions, ``correlation`` finds features that say the same, ``trees``
explains a LightGBM model on the signature, and ``figures`` draws all of it. The stage is ``skinkit select``, the
command ``skinkit signature``.
"""
