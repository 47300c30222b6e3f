"""Pages a clinician or a reviewer reads: self-contained HTML, opened offline, printed on paper.

``text`` and ``checklists`` hold every sentence in every language and ``words`` reads them. ``svg`` draws and cleans
figures, ``html`` packs blocks into pages, ``evidence`` reads artifacts into plain facts, ``cards`` tells one lesion,
``research`` and ``clinic`` compose the two documents. Everything that comes from a table is escaped. ``reproduction``
composes the Markdown page of a paper that was run again.
"""
