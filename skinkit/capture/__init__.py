"""The photo page: a small web server for phones and laptops of a ward, which keeps everything in the workspace.

``app`` answers requests, ``sessions`` knows who may, ``guard`` refuses what no page of ours would send, ``tls`` makes
certificates, ``serving`` runs it all, ``gate`` checks photos and ``classifying`` predicts them. The records are in
:mod:`skinkit.data.capture_records`.
"""
