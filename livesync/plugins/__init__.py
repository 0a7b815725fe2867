"""livesync plugged into applications: wiring only, one module (and its helpers) a kind of application."""
