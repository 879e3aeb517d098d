"""This host: its clocks, log, systemd, address, sockets, and the libraries that run on them. A shelf of modules."""
