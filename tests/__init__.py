"""The suite. Layers: unit, integration, conformance (one suite for each seam with two implementations), contracts."""
