"""Stand-ins for outside services, each of which can be run by itself."""
