"""The whole studio as outsiders meet it: over raw sockets, in a real browser, by a fuzzer of its document."""
