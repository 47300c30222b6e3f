"""What the stage ``train`` does: its options (``config``), and the work of each task (``work``, ``classifier``)."""
