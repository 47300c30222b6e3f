"""Keeping patients private: pseudonyms and the permissions of files."""
