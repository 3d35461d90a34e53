"""What training lowers: noise, targets, weights and losses, each with its formula and where it comes from."""
