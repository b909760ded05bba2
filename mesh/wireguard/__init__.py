"""WireGuard devices: desired peers computed purely, applied as a diff through one door."""
