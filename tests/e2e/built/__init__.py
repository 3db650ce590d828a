"""What `make build` made, run as Lambda runs it: real SDKs, emulators, and no package but those of the layers."""
