"""Forward models: linear operators with exact adjoints."""
