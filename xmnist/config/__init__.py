"""Configuration: keys, rules for their values, and the settings that follow from them."""
