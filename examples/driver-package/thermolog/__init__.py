"""The Thermolog TL2 for operando: `driver` and `simulator` know nothing of each other."""
