"""What Parley decides: pure, without clock, chance, files or network."""
