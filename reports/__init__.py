"""Records of what was judged, and everything that is made from them. Knows no engine and no suite."""
