"""The command line: orcinus <command>. One command a file."""
