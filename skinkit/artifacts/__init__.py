"""What lies on disk: artifacts, their tables and files, who writes them and what they were made from."""
