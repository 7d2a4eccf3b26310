"""What a campaign does next, by what its cases added: interesting cases, their energy, and what competes by yield."""
