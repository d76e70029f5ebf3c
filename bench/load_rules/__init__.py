"""The load rules against a real GPU: images are built, loaded, and what comes of them is laid beside what the rules say."""
