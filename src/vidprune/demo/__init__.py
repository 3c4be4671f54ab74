"""A small self-contained demonstration: generated clips and a model that knows them."""
