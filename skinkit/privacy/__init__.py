"""Patient privacy: pseudonyms and file permissions."""
