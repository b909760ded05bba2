"""SWIM membership as a sans-IO core: datagrams and time in, datagrams and events out."""
