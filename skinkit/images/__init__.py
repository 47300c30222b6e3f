"""Pixels in and out: ``decode`` reads photos and masks, ``identity`` hashes them, ``encode`` writes them."""
