"""Evidence for models of hardware: what they say, and what can be measured of it here."""
