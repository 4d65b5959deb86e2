"""What happens to a subnet with every block and every epoch: weights become incentive, dividends and emission."""
