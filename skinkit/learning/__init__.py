"""What ``skinkit train`` does to one fold; the stage decides what is trained, when and where it is kept.

rows        the cases of a model, divided by the split
classifier  encoder, scalers, model, calibration and thresholds of one fold
segmenter   a network that draws masks, from truth masks
network     building, starting, fitting and writing one network, for both
"""
