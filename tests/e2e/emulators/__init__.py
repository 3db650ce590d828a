"""Emulators of Lambda that we did not write: one streams, the other is AWS's own. They keep our fake honest."""
