"""Reports for clinicians and reviewers: self-contained HTML for offline reading and printing.

``text`` and ``checklists`` hold all sentences in every language, read by ``words``. ``svg`` draws and sanitises
figures, ``html`` packs blocks into pages, ``evidence`` reads artifacts into plain facts, ``cards`` describes one
lesion, ``research`` and ``clinic`` compose the two documents. All table contents are escaped. ``reproduction`` composes
the Markdown page of a reproduced paper.
"""
