"""The viewer: a local web page that poses an avatar, and one file that does the same."""
