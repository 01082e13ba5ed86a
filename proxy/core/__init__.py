"""DECIDE: pure values and functions; no await, clock, randomness, disk, socket or framework."""
