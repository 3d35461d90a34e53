"""The studio as a server: its socket, its addresses, its health, its log."""
