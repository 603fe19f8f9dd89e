"""The anatomy of a layer: each quantity in order, stored or computed, with its shape in symbols."""
