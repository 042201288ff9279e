"""The device agent: trains on private text, contributes, installs releases, serves the personal model."""
