"""What Parley talks to: one module per outside thing. Adapters do not know each other."""
