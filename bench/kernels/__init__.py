"""How fast GPU code is read from headers, beside NVIDIA's cuobjdump."""
