"""Real programs around a real slimtad, for the interop tests: each in its own folder, on loopback addresses of its own."""
